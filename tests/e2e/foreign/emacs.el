;;; emacs.el --- Drives a sidecar with Emacs's jsonrpc.el  -*- lexical-binding: t -*-
;;; Commentary:
;; Prints what it saw as one JSON object.
;;; Code:
(require 'jsonrpc)

(defconst driver-patience-s 60 "Far beyond what anything takes.")
(defvar driver-deltas (make-hash-table :test #'equal) "Deltas of each stream, newest first.")
(defvar driver-errors nil "What is no message of ours.")

(defun driver-dispatch (_connection method params)
  "Keep the PARAMS of the notification METHOD."
  (pcase method
    ('stream/delta (push params (gethash (plist-get params :stream) driver-deltas)))
    ((or 'engine/state 'log 'progress) nil)
    (_ (push (symbol-name method) driver-errors))))

(defun driver-setting (name)
  "The JSON value of the environment variable NAME."
  (json-parse-string (getenv name) :array-type 'list))

(defvar driver-connection
  (let ((command (driver-setting "SIDECAR_COMMAND")))
    (make-instance
     'jsonrpc-process-connection
     :name "sidecar"
     :events-buffer-scrollback-size 0   ; pretty-printing each message takes longer than all else
     :notification-dispatcher #'driver-dispatch
     :process (lambda ()
                (make-process :name "sidecar" :command command :connection-type 'pipe :noquery t
                              ;; jsonrpc.el counts bytes of the buffer; any other coding loses count.
                              :coding 'utf-8-emacs-unix
                              :stderr (get-buffer-create "*sidecar stderr*"))))))

(defun driver-wait-for (what condition)
  "Wait until CONDITION, which is called WHAT, holds."
  (with-timeout (driver-patience-s (error "Nothing came: %s" what))
    (while (not (funcall condition))
      (accept-process-output nil 0.01))))

(defun driver-call (method &optional params)
  "The result of METHOD with PARAMS."
  (jsonrpc-request driver-connection method params :timeout driver-patience-s))

(defun driver-notify (method &optional params)
  "Tell METHOD with PARAMS."
  (jsonrpc-notify driver-connection method params))

(defun driver-cancelled (stream cancel)
  "The result of a long generation as STREAM; CANCEL is called with its id after its first delta."
  (let (answer)
    (jsonrpc-async-request driver-connection :generate
                           `(:model "fake?tokens=100000&delay_ms=5" :prompt "Hello" :stream ,stream)
                           :success-fn (lambda (result) (setq answer result))
                           :error-fn (lambda (problem) (error "Generation failed: %S" problem))
                           ;; A timer of theirs forgets the request, not only the wait for it.
                           :timeout nil)
    (let ((id (jsonrpc--next-request-id driver-connection)))
      (driver-wait-for "a first delta" (lambda () (gethash stream driver-deltas)))
      (funcall cancel id))
    (driver-wait-for "the answer to generate" (lambda () answer))
    answer))

(defun driver-error (method)
  "The error that METHOD is answered with."
  (condition-case problem
      (progn (driver-call method) nil)
    (jsonrpc-error (list :code (alist-get 'jsonrpc-error-code (cdr problem))
                         :data (alist-get 'jsonrpc-error-data (cdr problem))))))

(defun driver-exit-status ()
  "The exit status of the process, once it has ended."
  (driver-wait-for "the exit" (lambda () (not (jsonrpc-running-p driver-connection))))
  (process-exit-status (jsonrpc--process driver-connection)))

(defun driver-drive ()
  "Go through the whole conversation; what was seen, as a plist."
  (list
   :initialize (driver-call :initialize `(:protocol_version 1 :client (:name "emacs") :process_id ,(emacs-pid)))
   :initialized (driver-notify :initialized)
   :ping (driver-call :ping)
   :finished (driver-call :generate '(:model "fake?tokens=40" :prompt "Hello" :stream "finished"))
   :returned (let* ((text (driver-setting "SIDECAR_TEXT"))
                    (tokens (plist-get (driver-call :tokenize `(:model "fake" :text ,text)) :tokens)))
               (driver-call :detokenize `(:model "fake" :tokens ,tokens)))
   :cancelled_by_id
   (driver-cancelled "id" (lambda (id) (driver-notify :$/cancelRequest (list :id id))))
   ;; Not `jsonrpc-request': in Emacs 28 that leaves what arrives in one piece with its answer, here the answer to
   ;; `generate', unread until something more arrives.
   :cancelled_by_stream
   (driver-cancelled "stream" (lambda (_id)
                                (jsonrpc-async-request driver-connection :stream/cancel '(:stream "stream"))))
   :unknown_method (driver-error :no/such)
   :shutdown (driver-call :shutdown)
   :exit (driver-notify :exit)
   :exit_status (driver-exit-status)
   :errors (vconcat driver-errors)
   :deltas (let ((ordered (make-hash-table :test #'equal)))
             (maphash (lambda (stream deltas) (puthash stream (vconcat (reverse deltas)) ordered)) driver-deltas)
             ordered)))

(princ (json-serialize (driver-drive) :false-object :json-false :null-object nil))
;;; emacs.el ends here
