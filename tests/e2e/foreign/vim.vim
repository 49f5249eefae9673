" Drives a sidecar through a channel of Vim 9 in mode 'lsp'; prints what it saw as one JSON object.
set encoding=utf-8
let s:patience_ms = 60000 " far beyond what anything takes
let s:seen = {'deltas': {}, 'errors': []}
let s:answers = {}
let s:exit_status = v:null

function! s:fail(why) abort
  call writefile([a:why], '/dev/stderr')
  cquit!
endfunction

" Notifications come here; answers go to the callbacks of their requests.
function! s:on_message(channel, message) abort
  if get(a:message, 'method', '') ==# 'stream/delta'
    let stream = a:message.params.stream
    let s:seen.deltas[stream] = get(s:seen.deltas, stream, []) + [a:message.params]
  elseif index(['engine/state', 'log', 'progress'], get(a:message, 'method', '')) < 0
    call add(s:seen.errors, a:message)
  endif
endfunction

function! s:on_exit(job, status) abort
  let s:exit_status = a:status
endfunction

" Waits until the lambda holds. Callbacks run while Vim sleeps.
function! s:wait_for(what, Condition) abort
  let start = reltime()
  while !a:Condition()
    if reltimefloat(reltime(start)) * 1000 > s:patience_ms
      call s:fail('nothing came: ' .. a:what)
    endif
    sleep 2m
  endwhile
endfunction

function! s:ask(method, params) abort
  let options = {'callback': {_, answer -> extend(s:answers, {string(answer.id): answer})}}
  return ch_sendexpr(s:channel, {'method': a:method, 'params': a:params}, options).id
endfunction

function! s:answer(id) abort
  call s:wait_for('an answer', {-> has_key(s:answers, string(a:id))})
  return s:answers[string(a:id)]
endfunction

" The blocking way: the answer itself.
function! s:call(method, ...) abort
  let request = extend({'method': a:method}, a:0 ? {'params': a:1} : {})
  return ch_evalexpr(s:channel, request, {'timeout': s:patience_ms})
endfunction

function! s:notify(method, ...) abort
  call ch_sendexpr(s:channel, extend({'method': a:method}, a:0 ? {'params': a:1} : {}))
endfunction

" The result of a long generation; Cancel is called with its id after its first delta.
function! s:cancelled(stream, Cancel) abort
  let id = s:ask('generate', {'model': 'fake?tokens=100000&delay_ms=5', 'prompt': 'Hello', 'stream': a:stream})
  call s:wait_for('a first delta', {-> has_key(s:seen.deltas, a:stream)})
  call a:Cancel(id)
  return s:answer(id).result
endfunction

function! s:drive() abort
  let s:seen.initialize = s:call('initialize', #{protocol_version: 1, client: #{name: 'vim'}, process_id: getpid()}).result
  call s:notify('initialized', {})
  let s:seen.ping = s:call('ping').result
  let s:seen.finished = s:call('generate', #{model: 'fake?tokens=40', prompt: 'Hello', stream: 'finished'}).result
  let text = json_decode($SIDECAR_TEXT)
  let tokens = s:call('tokenize', #{model: 'fake', text: text}).result.tokens
  let s:seen.returned = s:call('detokenize', #{model: 'fake', tokens: tokens}).result
  let s:seen.cancelled_by_id = s:cancelled('id', {id -> s:notify('$/cancelRequest', #{id: id})})
  let s:seen.cancelled_by_stream = s:cancelled('stream', {_ -> s:call('stream/cancel', #{stream: 'stream'})})
  let error = s:call('no/such').error
  let s:seen.unknown_method = #{code: error.code, data: error.data}
  let s:seen.shutdown = s:call('shutdown').result
  call s:notify('exit')
  call s:wait_for('the exit', {-> s:exit_status isnot v:null})
  let s:seen.exit_status = s:exit_status
endfunction

try
  let s:options = #{in_mode: 'lsp', out_mode: 'lsp', err_mode: 'nl', noblock: 1}
  let s:options.out_cb = function('s:on_message')
  let s:options.exit_cb = function('s:on_exit')
  let s:job = job_start(json_decode($SIDECAR_COMMAND), s:options)
  let s:channel = job_getchannel(s:job)
  call s:drive()
  call writefile([json_encode(s:seen)], '/dev/stdout')
catch
  call s:fail(v:throwpoint .. ': ' .. v:exception)
endtry
qall!
