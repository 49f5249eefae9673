;;; mlx-sidecar-test.el --- Tests of the package for Emacs  -*- lexical-binding: t; -*-
;;; Commentary:
;; MLX_SIDECAR_TEST_COMMAND has the words in front of "serve", as a JSON array.
;;; Code:
(require 'ert)
(require 'mlx-sidecar)

(defconst test-patience-s 60 "Far beyond what anything takes: a test that gets here has found a hang.")

(setq mlx-sidecar-command (json-parse-string (getenv "MLX_SIDECAR_TEST_COMMAND") :array-type 'list)
      mlx-sidecar-serve-arguments '("--engine" "fake"))

(defmacro test-wait (condition)
  "Wait until CONDITION holds."
  `(with-timeout (test-patience-s (ert-fail '(never ,condition)))
     (while (not ,condition)
       (accept-process-output nil 0.01))))

(defvar test-messages nil "What the user was told, newest first.")

(defmacro test-with (model &rest body)
  "Evaluate BODY with MODEL, and no chat or completion of another test."
  (declare (indent 1))
  `(let ((mlx-sidecar-model ,model)
         (test-messages nil))
     (cl-letf (((symbol-function 'message)
                (lambda (format &rest arguments)
                  (when format (push (apply #'format-message format arguments) test-messages)))))
       (unwind-protect
           (save-window-excursion ,@body)
         (mlx-sidecar-dismiss)
         (when (get-buffer "*mlx-sidecar chat*")
           (kill-buffer "*mlx-sidecar chat*"))))))

(defun test-says (text &optional options)
  "A fake model that says TEXT, with more OPTIONS."
  (concat "fake?text=" (url-hexify-string text) options))

(defun test-ask (question)
  "Send QUESTION in a chat, and wait for the end of its answer."
  (mlx-sidecar-chat)
  (insert question)
  (mlx-sidecar-send)
  (test-wait (null mlx-sidecar--answer)))

;;; Chat.

(ert-deftest an-answer-streams-into-the-chat-and-the-next-question-is-below-it ()
  (test-with (test-says "because\nof it" "&delay_ms=2")
    (test-ask "why?")
    (should (equal (buffer-string)
                   "=== user ===\n\nwhy?\n\n=== assistant ===\n\nbecause\nof it\n\n=== user ===\n\n"))
    (should (eobp))
    (should-not buffer-read-only)))

(ert-deftest a-chat-sends-all-that-was-said-and-its-system-message ()
  (let ((mlx-sidecar-system "Be short."))
    (test-with (test-says "one")
      (test-ask "first")
      (insert "second")
      (should (equal (mlx-sidecar--messages)
                     [(:role "system" :content "Be short.") (:role "user" :content "first")
                      (:role "assistant" :content "one") (:role "user" :content "second")])))))

(ert-deftest reasoning-is-a-section-of-its-own-and-goes-back-with-its-answer ()
  (test-with (test-says "<think>Let me see.</think>Yes.")
    (test-ask "Really?")
    (should (string-match-p "=== reasoning ===\n\nLet me see.\n\n=== assistant ===\n\nYes." (buffer-string)))
    (should (equal (aref (mlx-sidecar--messages) 1)
                   '(:role "assistant" :content "Yes." :reasoning_content "Let me see.")))))

(ert-deftest characters-of-every-length-arrive ()
  (test-with "fake?echo=1"
    (test-ask "é ß 漢字 🦜 שלום")
    (should (= 2 (cl-count-if (lambda (line) (string-search "é ß 漢字 🦜 שלום" line))
                              (split-string (buffer-string) "\n"))))))

(ert-deftest stopping-keeps-the-text-and-says-so ()
  (test-with "fake?tokens=100000&delay_ms=5&context=200000"
    (let ((mlx-sidecar-chat-parameters '(:max_tokens 100000)))
      (mlx-sidecar-chat)
      (insert "go")
      (mlx-sidecar-send)
      (should-error (mlx-sidecar-send) :type 'user-error)
      (test-wait (equal mlx-sidecar--section "assistant"))
      (mlx-sidecar-stop)
      (test-wait (null mlx-sidecar--answer))
      (should (member "mlx-sidecar: stopped" test-messages))
      (should (string-suffix-p "=== user ===\n\n" (buffer-string))))))

(ert-deftest a-long-answer-is-acknowledged-and-comes-to-its-end ()
  (test-with "fake?tokens=600&delay_ms=1"
    (test-ask "go")
    (should (> (buffer-size) 600))))

(ert-deftest an-error-is-said-with-what-to-do-and-the-question-can-be-sent-again ()
  (test-with "fake?fail_load=model_not_found"
    (test-ask "why?")
    (should (equal (buffer-string) "=== user ===\n\nwhy?"))
    (should (string-match-p "the answer broke off: .*mlx-sidecar-load.* gets a model" (car test-messages)))
    (setq mlx-sidecar-model (test-says "so"))
    (mlx-sidecar-send)
    (test-wait (null mlx-sidecar--answer))
    (should (string-search "so" (buffer-string)))))

(ert-deftest an-answer-that-breaks-off-keeps-its-text ()
  (test-with (test-says "half and half" "&fail_after=4")
    (test-ask "why?")
    (should (string-search "=== assistant ===\n\nhalf\n\n=== user ===" (buffer-string)))
    (should (string-match-p "the script says so" (car test-messages)))))

(ert-deftest a-chat-without-a-question-is-not-sent ()
  (test-with (test-says "x")
    (mlx-sidecar-chat)
    (should-error (mlx-sidecar-send) :type 'user-error)))

(ert-deftest the-region-is-quoted-in-the-question ()
  (test-with (test-says "x")
    (mlx-sidecar-chat "(defun f ())\n")
    (should (equal (buffer-string) "=== user ===\n\n```\n(defun f ())\n```\n\n"))))

(ert-deftest a-chat-says-how-to-send ()
  (test-with (test-says "x")
    (mlx-sidecar-chat)
    (should (string-search "C-c C-c sends" (eval (cadr header-line-format) t)))))

;;; Completion.

(defun test-complete (text)
  "Ask for a completion behind TEXT in the current buffer, and wait for all of it."
  (insert text)
  (mlx-sidecar-complete)
  (test-wait (or (null mlx-sidecar--ghost) (overlay-get mlx-sidecar--ghost 'mlx-sidecar-is-whole))))

(ert-deftest a-completion-is-shown-and-taken ()
  (test-with (test-says "world\n")
    (with-temp-buffer
      (test-complete "hello ")
      (should (equal (buffer-string) "hello "))
      (should (equal (overlay-get mlx-sidecar--ghost 'after-string) "world"))
      (should (eq (lookup-key mlx-sidecar-ghost-map (kbd "TAB")) #'mlx-sidecar-accept))
      (mlx-sidecar-accept)
      (should (equal (buffer-string) "hello world"))
      (should-not mlx-sidecar--ghost))))

(ert-deftest a-completion-of-text-that-has-changed-is-not-taken ()
  (test-with (test-says "world")
    (with-temp-buffer
      (test-complete "hello ")
      (insert "x")
      (mlx-sidecar-accept)
      (should (equal (buffer-string) "hello x")))))

(ert-deftest a-completion-that-is-dismissed-is-cancelled ()
  (test-with "fake?tokens=100000&delay_ms=5&context=200000"
    (with-temp-buffer
      (let ((mlx-sidecar-completion-parameters '(:max_tokens 100000)))
        (insert "x")
        (mlx-sidecar-complete)
        (test-wait (overlay-get mlx-sidecar--ghost 'mlx-sidecar-text))
        (mlx-sidecar-dismiss)
        (test-wait (zerop (hash-table-count mlx-sidecar--streams)))))))

(defmacro test-with-tokenizer (asked &rest body)
  "Evaluate BODY with a tokenizer that knows the second family of marks.
Its tokens are characters, 1001 to 1003 for the marks, and 1 in
front of a prompt.  ASKED is pushed the parameters of each request.
With escape_special the texts of marks are characters too."
  (declare (indent 1))
  `(let ((mlx-sidecar--fillings nil))
     (cl-letf (((symbol-function 'mlx-sidecar--request)
                (lambda (_method params done _failed)
                  (push params ,asked)
                  (let* ((text (plist-get params :text))
                         (mark (seq-position (nth 1 mlx-sidecar--marks) text))
                         (tokens (if (and mark (not (eq (plist-get params :escape_special) t)))
                                     (list (+ 1001 mark))
                                   (append text nil))))
                    (funcall done (list :tokens (vconcat (unless (plist-member params :add_special) '(1)) tokens)))))))
       ,@body)))

(ert-deftest a-completion-sends-so-much-of-the-text-around-point ()
  (with-temp-buffer
    (insert "before after")
    (should (equal (mlx-sidecar--around 8) '("before " "after")))
    (let ((mlx-sidecar-context-characters '(3 . 2)))
      (should (equal (mlx-sidecar--around 8) '("re " "af"))))))

(ert-deftest a-model-with-marks-gets-the-text-behind-point-too ()
  (let (asked found)
    (test-with-tokenizer asked
      (mlx-sidecar--filling "m" (lambda (filling) (mlx-sidecar--prompt "m" filling '("a" "b") (lambda (it) (setq found it))))))
    (should (equal found '(:tokens [1 1001 ?a 1002 ?b 1003])))))

(ert-deftest a-mark-in-the-text-is-text ()
  (dolist (mlx-sidecar-escape-special '(t nil))
    (let (asked found)
      (test-with-tokenizer asked
        (mlx-sidecar--prompt "m" '((1) 1001 1002 1003) '("<fim_middle>" "") (lambda (it) (setq found it))))
      (should (equal found (list :tokens (vconcat (if mlx-sidecar-escape-special
                                                      (append '(1 1001) (append "<fim_middle>" nil) '(1002 1003))
                                                    '(1 1001 1003 1002 1003)))))))
    (let (found)
      (mlx-sidecar--prompt "m" nil '("a" "b") (lambda (it) (setq found it)))
      (should (equal found (list :prompt "a" :escape_special (if mlx-sidecar-escape-special t :json-false)))))))

(ert-deftest marks-are-found-by-asking-the-tokenizer-once ()
  (let (asked found)
    (test-with-tokenizer asked
      (dotimes (_ 2)
        (mlx-sidecar--filling "m" (lambda (filling) (setq found filling)))))
    (should (equal found '((1) 1001 1002 1003)))
    (should (= (length asked) 7))))

(ert-deftest a-model-without-marks-is-asked-once-too ()
  (let (asked (found 'nothing))
    (test-with-tokenizer asked
      (let ((mlx-sidecar--marks (list (car mlx-sidecar--marks))))
        (dotimes (_ 2)
          (mlx-sidecar--filling "m" (lambda (filling) (setq found filling))))))
    (should-not found)
    (should (= (length asked) 3))))

;;; The process.

(ert-deftest a-start-warns-of-nothing-and-keeps-no-log-of-messages ()
  (mlx-sidecar-shutdown)
  (let (warned)
    (cl-letf (((symbol-function 'display-warning) (lambda (&rest what) (push what warned))))
      (test-with (test-says "so")
        (test-ask "why?")))
    (should-not warned)
    (with-current-buffer (jsonrpc-events-buffer mlx-sidecar--connection)
      (should-not (string-search "generate" (buffer-string))))))

(ert-deftest after-the-process-was-killed-the-next-request-starts-another ()
  (test-with (test-says "so")
    (test-ask "why?")
    (let ((first mlx-sidecar--connection))
      (signal-process (jsonrpc--process first) 'KILL)
      (test-wait (null mlx-sidecar--connection))
      (insert "and?")
      (mlx-sidecar-send)
      (test-wait (null mlx-sidecar--answer))
      (should-not (eq first mlx-sidecar--connection))
      (should (string-match-p "and\\?\n\n=== assistant ===\n\nso" (buffer-string))))))

(ert-deftest an-answer-that-loses-its-process-ends-with-a-remark ()
  (test-with "fake?tokens=1000&delay_ms=5"
    (mlx-sidecar-chat)
    (insert "go")
    (mlx-sidecar-send)
    (test-wait (equal mlx-sidecar--section "assistant"))
    (signal-process (jsonrpc--process mlx-sidecar--connection) 'KILL)
    (test-wait (null mlx-sidecar--answer))
    (should (seq-some (lambda (said) (string-match-p "the answer broke off" said)) test-messages))))

(ert-deftest a-program-that-is-not-there-is-said-with-what-to-do ()
  (mlx-sidecar-shutdown)
  (let ((mlx-sidecar-command "no-such-sidecar"))
    (let ((problem (should-error (mlx-sidecar--connect) :type 'user-error)))
      (should (string-match-p "No no-such-sidecar: docs/install.md" (cadr problem))))))

(ert-deftest a-model-is-loaded ()
  (test-with (test-says "x")
    (mlx-sidecar-load "fake?load_ms=1")
    (test-wait (member "mlx-sidecar: fake?load_ms=1 is loaded" test-messages))))

(require 'url-util)
;;; mlx-sidecar-test.el ends here
