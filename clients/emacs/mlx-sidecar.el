;;; mlx-sidecar.el --- Completion and chat from a language model on this machine  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: MIT
;; Version: 0.1.0
;; Package-Requires: ((emacs "28.1"))
;; Keywords: convenience, tools

;;; Commentary:

;; `mlx-sidecar-chat' opens a buffer that is a conversation; C-c C-c sends it.
;; `mlx-sidecar-complete' shows how a model goes on at point; TAB takes that.
;;
;; Both start the program mlx-sidecar and speak with it over pipes, by means of
;; jsonrpc.el.  Nothing leaves this machine.  It ends with Emacs.

;;; Code:

(require 'cl-lib)
(require 'eieio)
(require 'jsonrpc)
(require 'subr-x)

;;; Options.

(defgroup mlx-sidecar nil
  "Language models on this machine."
  :group 'tools
  :prefix "mlx-sidecar-")

(defcustom mlx-sidecar-command nil
  "The program, or a list of the words in front of \"serve\".
Without it that of the environment variable MLX_SIDECAR, or else
mlx-sidecar on the search path."
  :type '(choice (const :tag "As the environment says" nil) string (repeat string)))

(defcustom mlx-sidecar-serve-arguments nil
  "Arguments behind \"serve\"."
  :type '(repeat string))

(defcustom mlx-sidecar-model "pocket"
  "The model: pocket, a directory, or a hub id that is on this machine."
  :type 'string)

(defcustom mlx-sidecar-completion-model nil
  "The model of completions; nil is `mlx-sidecar-model'."
  :type '(choice (const :tag "The same" nil) string))

(defcustom mlx-sidecar-system nil
  "The system message of a new chat."
  :type '(choice (const :tag "None" nil) string))

(defcustom mlx-sidecar-chat-parameters '(:max_tokens 1024 :temperature 0)
  "Parameters of the protocol's generate for answers in chats."
  :type 'plist)

(defcustom mlx-sidecar-completion-parameters '(:max_tokens 64 :temperature 0 :stop ["\n\n"])
  "Parameters of the protocol's generate for completions."
  :type 'plist)

(defcustom mlx-sidecar-context-characters '(8000 . 1000)
  "How many characters before and after point a completion sends, at most."
  :type '(cons natnum natnum))

(defcustom mlx-sidecar-escape-special t
  "Whether texts never become control tokens of the model.
A model whose tokenizer cannot tell them apart needs nil."
  :type 'boolean)

(defface mlx-sidecar-ghost '((t :inherit shadow))
  "A completion that was not taken yet.")

(defface mlx-sidecar-role '((t :inherit font-lock-keyword-face))
  "Lines of a chat that begin a message.")

;;; The process.

(defconst mlx-sidecar--window 64 "Deltas of a stream that are not acknowledged, at most.")
(defconst mlx-sidecar--start-s 60 "How long the first answer may take.")

(defvar mlx-sidecar--connection nil "The connection with the process there is.")
(defvar mlx-sidecar--streams (make-hash-table :test #'equal) "Functions for deltas, by names of streams.")
(defvar mlx-sidecar--names 0 "How many streams have got a name.")
(defvar mlx-sidecar--fillings nil "Tokens for filling in, by the model; nil is none.")

(defun mlx-sidecar--words ()
  "The command in front of \"serve\".  Signals a `user-error' if it is not there."
  (let* ((named (or mlx-sidecar-command (getenv "MLX_SIDECAR") "mlx-sidecar"))
         (words (if (listp named) named (list named)))
         (found (executable-find (if (string-search "/" (car words)) (expand-file-name (car words)) (car words)))))
    (unless found
      (user-error "No %s: docs/install.md in its repository says how to install it, `mlx-sidecar-command' where it is"
                  (car words)))
    (cons found (cdr words))))

(defun mlx-sidecar--dispatch (_connection method params)
  "Hand on PARAMS of the notification METHOD."
  (when (eq method 'stream/delta)
    (when-let ((take (gethash (plist-get params :stream) mlx-sidecar--streams)))
      (funcall take params))))

(defun mlx-sidecar--gone (connection)
  "Forget CONNECTION, so that the next request starts another process."
  (when (eq connection mlx-sidecar--connection)
    (setq mlx-sidecar--connection nil)))

(defun mlx-sidecar--no-events ()
  "Arguments for a connection without a log of its messages.
Printing each of them costs more than all else.  The newer
jsonrpc.el, that of Emacs 30, warns of what the older one takes."
  (if (memq '-events-buffer-config (mapcar #'eieio-slot-descriptor-name (eieio-class-slots 'jsonrpc-connection)))
      '(:events-buffer-config (:size 0))
    '(:events-buffer-scrollback-size 0)))

(defun mlx-sidecar--start ()
  "Start a process, and wait for its first answer."
  (let* ((command (append (mlx-sidecar--words) '("serve" "--framing" "headers") mlx-sidecar-serve-arguments))
         (connection
          (apply
           #'make-instance
           'jsonrpc-process-connection
           :name "mlx-sidecar"
           :notification-dispatcher #'mlx-sidecar--dispatch
           :on-shutdown #'mlx-sidecar--gone
           :process (lambda ()
                      (make-process :name "mlx-sidecar" :command command :connection-type 'pipe :noquery t
                                    ;; jsonrpc.el counts the buffer's bytes; another coding would lose count.
                                    :coding 'utf-8-emacs-unix
                                    :stderr (get-buffer-create " *mlx-sidecar stderr*")))
           (mlx-sidecar--no-events))))
    (setq mlx-sidecar--connection connection)
    (condition-case problem
        (jsonrpc-request connection :initialize
                         (list :protocol_version 1 :client '(:name "mlx-sidecar.el") :process_id (emacs-pid))
                         :timeout mlx-sidecar--start-s)
      (jsonrpc-error
       (mlx-sidecar-shutdown)
       (user-error "The sidecar does not start: %s; the buffer \" *mlx-sidecar stderr*\" has its last words"
                   (alist-get 'jsonrpc-error-message (cdr problem)))))
    (jsonrpc-notify connection :initialized nil)
    connection))

(defun mlx-sidecar--connect ()
  "The connection; it is started by the first request."
  (if (and mlx-sidecar--connection (jsonrpc-running-p mlx-sidecar--connection))
      mlx-sidecar--connection
    (mlx-sidecar--start)))

(defun mlx-sidecar-shutdown ()
  "End the process, and its requests with it.  The next request starts another."
  (interactive)
  (when-let ((connection mlx-sidecar--connection))
    (setq mlx-sidecar--connection nil)
    (when (jsonrpc-running-p connection)
      (delete-process (jsonrpc--process connection)))))

(defun mlx-sidecar--request (method params done failed)
  "Ask METHOD with PARAMS; DONE gets the result, or FAILED the error, later."
  (jsonrpc-async-request (mlx-sidecar--connect) method params
                         :success-fn done :error-fn failed
                         ;; Their timer would forget the request, not only the wait for it.
                         :timeout nil))

(defun mlx-sidecar--escape ()
  "The parameter that says whether texts may become control tokens."
  (list :escape_special (if mlx-sidecar-escape-special t :json-false)))

(defun mlx-sidecar--generate (params take done failed)
  "Generate with PARAMS, and return the name of the stream.
TAKE gets each delta, then DONE the result, or FAILED an error and
the partial result if there is one.  Deltas are acknowledged when
they were taken, so that the engine is never far ahead."
  (let* ((connection (mlx-sidecar--connect))
         (name (format "emacs-%d" (cl-incf mlx-sidecar--names)))
         (end (lambda () (remhash name mlx-sidecar--streams))))
    (puthash name
             (lambda (delta)
               (funcall take delta)
               (let ((seq (plist-get delta :seq)))
                 (when (zerop (% (1+ seq) (/ mlx-sidecar--window 2)))
                   (jsonrpc-notify connection :stream/ack (list :stream name :seq seq)))))
             mlx-sidecar--streams)
    (mlx-sidecar--request
     :generate (append (list :stream name :window mlx-sidecar--window) params)
     (lambda (result)
       (funcall end)
       (if (equal (plist-get result :finish_reason) "error")
           (funcall failed (plist-get result :error) result)
         (funcall done result)))
     (lambda (problem)
       (funcall end)
       (funcall failed problem nil)))
    name))

(defun mlx-sidecar--cancel (name)
  "End the stream NAME.  Its result still comes."
  (when (and mlx-sidecar--connection (gethash name mlx-sidecar--streams))
    (jsonrpc-notify mlx-sidecar--connection :stream/cancel (list :stream name))))

(defun mlx-sidecar--describe (problem)
  "One line about PROBLEM, with what to do."
  (let* ((data (plist-get problem :data))
         (advice (pcase (plist-get data :kind)
                   ("model_not_found" "`mlx-sidecar-load' gets a model from the hub")
                   ("model_not_loaded" "`mlx-sidecar-load' loads it")
                   ("context_too_long" (format "%s tokens, and the model takes %s"
                                               (plist-get data :have) (plist-get data :limit)))
                   ((and "unsupported_parameter" (guard (equal (plist-get data :name) "escape_special")))
                    "`mlx-sidecar-escape-special' is nil for such a model")
                   ("overloaded" (format "try again in %s s" (or (plist-get data :retry_after_s) "a few"))))))
    (concat (string-trim (or (plist-get problem :message) "no reason given"))
            (and advice (format " (%s)" advice)))))

(defun mlx-sidecar--complain (problem &optional _result)
  "Tell the user of PROBLEM."
  (message "mlx-sidecar: %s" (mlx-sidecar--describe problem)))

;;;###autoload
(defun mlx-sidecar-load (model)
  "Load MODEL, and get it from the hub if it is not here."
  (interactive (list (read-string (format-prompt "Model" mlx-sidecar-model) nil nil mlx-sidecar-model)))
  (message "mlx-sidecar: loading %s…" model)
  (mlx-sidecar--request :load (list :model model)
                        (lambda (card) (message "mlx-sidecar: %s is loaded" (plist-get card :model)))
                        #'mlx-sidecar--complain))

;;; Chat.

(defconst mlx-sidecar--header "^=== \\(system\\|user\\|reasoning\\|assistant\\) ===[ \t]*$"
  "A line that begins a message.")

(defvar-local mlx-sidecar--answer nil "The name of the stream that writes into this chat.")
(defvar-local mlx-sidecar--end nil "Where the answer goes on.")
(defvar-local mlx-sidecar--section nil "The role of the section that is being written.")

(defvar mlx-sidecar-chat-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "C-c C-c") #'mlx-sidecar-send)
    (define-key map (kbd "C-c C-k") #'mlx-sidecar-stop)
    map)
  "Keys of a chat.")

(define-derived-mode mlx-sidecar-chat-mode text-mode "Sidecar"
  "A conversation with a language model.
The text of the buffer is what the model gets: each message begins
with a line such as \"=== user ===\", and the last one is yours."
  (setq-local font-lock-defaults `(((,mlx-sidecar--header . 'mlx-sidecar-role)) t))
  (setq-local header-line-format
              '(:eval (if mlx-sidecar--answer
                          (substitute-command-keys " answering; \\[mlx-sidecar-stop] stops")
                        (substitute-command-keys " \\[mlx-sidecar-send] sends"))))
  (visual-line-mode 1)
  (add-hook 'kill-buffer-hook #'mlx-sidecar-stop nil t))

(defun mlx-sidecar--messages ()
  "The messages of the current buffer, as the protocol has them."
  (save-excursion
    (goto-char (point-min))
    (let (messages reasoning)
      (while (re-search-forward mlx-sidecar--header nil t)
        (let* ((role (match-string-no-properties 1))
               (end (save-excursion (if (re-search-forward mlx-sidecar--header nil t) (match-beginning 0) (point-max))))
               (text (string-trim (buffer-substring-no-properties (point) end))))
          (cond ((string-empty-p text))
                ((equal role "reasoning") (setq reasoning text))
                (t (push (append (list :role role :content text)
                                 (and reasoning (equal role "assistant") (list :reasoning_content reasoning)))
                         messages)
                   (setq reasoning nil)))))
      (vconcat (nreverse messages)))))

(defun mlx-sidecar--begin (role)
  "Begin a message of ROLE at the end of the current buffer."
  (setq mlx-sidecar--section role)
  (mlx-sidecar--write (concat (if (bobp) "" "\n\n") "=== " role " ===\n\n")))

(defun mlx-sidecar--write (text)
  "Write TEXT at the end of the current buffer; a point there goes with it."
  (let ((inhibit-read-only t)
        (follows (eobp))
        (windows (seq-filter (lambda (window) (= (window-point window) (point-max)))
                             (get-buffer-window-list nil nil t))))
    (save-excursion
      (goto-char (point-max))
      (insert text))
    (when follows (goto-char (point-max)))
    (dolist (window windows) (set-window-point window (point-max)))))

(defun mlx-sidecar--take (delta)
  "Write DELTA of an answer into the current buffer."
  (dolist (channel '((:reasoning . "reasoning") (:text . "assistant")))
    (let ((text (plist-get delta (car channel))))
      (unless (or (null text) (string-empty-p text))
        (unless (equal mlx-sidecar--section (cdr channel))
          (mlx-sidecar--begin (cdr channel)))
        (mlx-sidecar--write text)))))

(defun mlx-sidecar--finish (&optional remark)
  "End the answer of the current buffer, and tell the user REMARK."
  (setq mlx-sidecar--answer nil
        buffer-read-only nil)
  (unless (equal mlx-sidecar--section "user") ; nothing came: the question can be sent again
    (mlx-sidecar--begin "user"))
  (force-mode-line-update)
  (when remark (message "mlx-sidecar: %s" remark)))

(defun mlx-sidecar-send ()
  "Send the chat of the current buffer; the answer comes into it."
  (interactive)
  (when mlx-sidecar--answer
    (user-error "An answer is coming; %s stops it" (substitute-command-keys "\\[mlx-sidecar-stop]")))
  (let ((messages (mlx-sidecar--messages))
        (chat (current-buffer)))
    (unless (and (> (length messages) 0) (equal (plist-get (aref messages (1- (length messages))) :role) "user"))
      (user-error "Write a question under the last === user ==="))
    (cl-flet ((in-chat (action)
                (lambda (&rest arguments)
                  (when (buffer-live-p chat)
                    (with-current-buffer chat (apply action arguments))))))
      (setq mlx-sidecar--section "user"
            mlx-sidecar--answer
            (mlx-sidecar--generate
             (append (list :model mlx-sidecar-model :messages messages) (mlx-sidecar--escape)
                     mlx-sidecar-chat-parameters)
             (in-chat #'mlx-sidecar--take)
             (in-chat (lambda (result)
                        (mlx-sidecar--finish
                         (pcase (plist-get result :finish_reason)
                           ("cancelled" "stopped")
                           ("length" "the answer was cut off: :max_tokens was reached, or the context is full")
                           ("deadline" "the answer was cut off: the time was over")))))
             (in-chat (lambda (problem _result)
                        (mlx-sidecar--finish (concat "the answer broke off: " (mlx-sidecar--describe problem))))))))
    (goto-char (point-max))
    (setq buffer-read-only t)
    (force-mode-line-update)))

(defun mlx-sidecar-stop ()
  "Stop the answer that is coming; its text stays."
  (interactive)
  (when mlx-sidecar--answer
    (mlx-sidecar--cancel mlx-sidecar--answer)))

;;;###autoload
(defun mlx-sidecar-chat (&optional quoted)
  "Open the chat.
QUOTED, which is the region if it is active, goes into the question."
  (interactive (list (and (use-region-p) (buffer-substring-no-properties (region-beginning) (region-end)))))
  (pop-to-buffer (get-buffer-create "*mlx-sidecar chat*"))
  (unless (derived-mode-p 'mlx-sidecar-chat-mode)
    (mlx-sidecar-chat-mode))
  (when (zerop (buffer-size))
    (when mlx-sidecar-system
      (mlx-sidecar--begin "system")
      (mlx-sidecar--write mlx-sidecar-system))
    (mlx-sidecar--begin "user"))
  (goto-char (point-max))
  (when quoted
    (mlx-sidecar--write (concat "```\n" (string-trim-right quoted "\n+") "\n```\n\n"))))

;;; Completion.

(defconst mlx-sidecar--marks
  '(("<|fim_prefix|>" "<|fim_suffix|>" "<|fim_middle|>")
    ("<fim_prefix>" "<fim_suffix>" "<fim_middle>")
    ("<fim-prefix>" "<fim-suffix>" "<fim-middle>")
    ("<｜fim▁begin｜>" "<｜fim▁hole｜>" "<｜fim▁end｜>")
    ("▁<PRE>" "▁<SUF>" "▁<MID>")
    ("<PRE>" "<SUF>" "<MID>"))
  "What models read before three texts: before a gap, behind it, in it.")

(defvar mlx-sidecar--ghost nil "The overlay of the completion that is shown, or on its way.")

(defvar mlx-sidecar-ghost-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "TAB") #'mlx-sidecar-accept)
    (define-key map (kbd "<tab>") #'mlx-sidecar-accept)
    map)
  "Keys while a completion is shown.
Any other key drops it, and has its usual effect.")

(defun mlx-sidecar--tokenize (model texts parameters found)
  "Call FOUND with the tokens of each of TEXTS, for MODEL.
PARAMETERS are more of those that the protocol's tokenize takes."
  (let ((tokens (make-vector (length texts) nil))
        (waiting (length texts)))
    (dotimes (place (length texts))
      (mlx-sidecar--request
       :tokenize (append (list :model model :text (nth place texts)) parameters)
       (lambda (result)
         (aset tokens place (append (plist-get result :tokens) nil))
         (when (zerop (cl-decf waiting))
           (funcall found (append tokens nil))))
       (lambda (problem)
         (when (> waiting 0)
           (setq waiting -1) ; the other answers are not waited for
           (mlx-sidecar-dismiss)
           (mlx-sidecar--complain problem)))))))

(defun mlx-sidecar--filling (model found &optional families)
  "Call FOUND with the tokens with which MODEL fills in, or nil.
They are those in front of a prompt, as a list, and then the
marks.  FAMILIES of marks are those to try.  A model knows marks
that are one token each."
  (if-let ((known (assoc model mlx-sidecar--fillings)))
      (funcall found (cdr known))
    (let ((families (or families mlx-sidecar--marks)))
      (mlx-sidecar--tokenize
       model (car families) '(:add_special :json-false)
       (lambda (tokens)
         (cond ((seq-every-p (lambda (of-mark) (= (length of-mark) 1)) tokens)
                (mlx-sidecar--tokenize
                 model (list (caar families)) nil
                 (lambda (whole)
                   (let ((marks (mapcar #'car tokens)))
                     (push (cons model (cons (seq-take-while (lambda (token) (/= token (car marks))) (car whole)) marks))
                           mlx-sidecar--fillings)
                     (mlx-sidecar--filling model found)))))
               ((cdr families)
                (mlx-sidecar--filling model found (cdr families)))
               (t
                (push (list model) mlx-sidecar--fillings)
                (mlx-sidecar--filling model found))))))))

(defun mlx-sidecar--around (position)
  "The texts before and after POSITION that a completion sends."
  (list (buffer-substring-no-properties (max (point-min) (- position (car mlx-sidecar-context-characters))) position)
        (buffer-substring-no-properties position (min (point-max) (+ position (cdr mlx-sidecar-context-characters))))))

(defun mlx-sidecar--prompt (model filling texts found)
  "Call FOUND with parameters for a completion between TEXTS, by MODEL.
FILLING has the tokens with which it fills in, if it does.  These
stand beside the tokens of the texts, so that a text which looks
like a mark is no mark."
  (pcase-exhaustive filling
    ('nil
     (funcall found (append (list :prompt (car texts)) (mlx-sidecar--escape))))
    (`(,lead ,prefix ,suffix ,middle)
     (mlx-sidecar--tokenize
      model texts (append '(:add_special :json-false) (mlx-sidecar--escape))
      (pcase-lambda (`(,before ,after))
        (funcall found (list :tokens (vconcat lead (list prefix) before (list suffix) after (list middle)))))))))

(defun mlx-sidecar--show (ghost text)
  "Show TEXT as that of GHOST."
  (overlay-put ghost 'mlx-sidecar-text text)
  (overlay-put ghost 'after-string (propertize text 'face 'mlx-sidecar-ghost 'cursor t)))

(defun mlx-sidecar--ask (ghost model filling)
  "Generate for GHOST, from MODEL, with the tokens of FILLING if it has some."
  (let ((texts (with-current-buffer (overlay-buffer ghost) (mlx-sidecar--around (overlay-start ghost)))))
    (if (and (null filling) (string-empty-p (car texts)))
        (mlx-sidecar-dismiss)
      (mlx-sidecar--prompt
       model filling texts
       (lambda (prompt)
         (when (eq ghost mlx-sidecar--ghost)
           (mlx-sidecar--fill ghost (append (list :model model :priority "high") prompt
                                            mlx-sidecar-completion-parameters))))))))

(defun mlx-sidecar--fill (ghost params)
  "Generate the text of GHOST with PARAMS."
  (overlay-put
   ghost 'mlx-sidecar-stream
   (mlx-sidecar--generate
    params
    (lambda (delta)
      (when (eq ghost mlx-sidecar--ghost)
        (mlx-sidecar--show ghost (concat (overlay-get ghost 'mlx-sidecar-text) (plist-get delta :text)))))
    (lambda (_result)
      (when (eq ghost mlx-sidecar--ghost)
        (let ((text (string-trim-right (or (overlay-get ghost 'mlx-sidecar-text) ""))))
          (overlay-put ghost 'mlx-sidecar-is-whole t)
          (if (string-empty-p text) (mlx-sidecar-dismiss) (mlx-sidecar--show ghost text)))))
    (lambda (problem _result)
      (when (eq ghost mlx-sidecar--ghost)
        (mlx-sidecar-dismiss)
        (mlx-sidecar--complain problem))))))

(defun mlx-sidecar--is-at-ghost ()
  "Whether point is where the completion is shown, and its text as it was."
  (and mlx-sidecar--ghost
       (eq (overlay-buffer mlx-sidecar--ghost) (current-buffer))
       (= (point) (overlay-start mlx-sidecar--ghost))
       (= (buffer-chars-modified-tick) (overlay-get mlx-sidecar--ghost 'mlx-sidecar-tick))))

;;;###autoload
(defun mlx-sidecar-complete ()
  "Show how the model goes on at point.
\\<mlx-sidecar-ghost-map>\\[mlx-sidecar-accept] takes that; any other key drops it, and cancels in the engine."
  (interactive)
  (barf-if-buffer-read-only)
  (mlx-sidecar-dismiss)
  (let ((ghost (make-overlay (point) (point))))
    (overlay-put ghost 'mlx-sidecar-tick (buffer-chars-modified-tick))
    (setq mlx-sidecar--ghost ghost)
    (set-transient-map mlx-sidecar-ghost-map #'mlx-sidecar--is-at-ghost #'mlx-sidecar-dismiss)
    (let ((model (or mlx-sidecar-completion-model mlx-sidecar-model)))
      (mlx-sidecar--filling model
                            (lambda (filling)
                              (when (eq ghost mlx-sidecar--ghost)
                                (mlx-sidecar--ask ghost model filling)))))))

(defun mlx-sidecar-accept ()
  "Put the completion that is shown into the text."
  (interactive)
  (let ((text (and (mlx-sidecar--is-at-ghost) (overlay-get mlx-sidecar--ghost 'mlx-sidecar-text))))
    (mlx-sidecar-dismiss)
    (when text (insert text))))

(defun mlx-sidecar-dismiss ()
  "Drop the completion that is shown, and cancel it."
  (interactive)
  (when-let ((ghost mlx-sidecar--ghost))
    (setq mlx-sidecar--ghost nil)
    (when-let ((name (overlay-get ghost 'mlx-sidecar-stream)))
      (mlx-sidecar--cancel name))
    (delete-overlay ghost)))

(provide 'mlx-sidecar)
;;; mlx-sidecar.el ends here
