-- Counts answers by what they are, and prints them as JSON. For one thread of wrk.
accepted, refused, without_retry_after, others = 0, 0, 0, 0

function setup(thread) worker = thread end

function response(status, headers)
  if status == 200 then
    accepted = accepted + 1
  elseif status == 503 then
    refused = refused + 1
    if not headers["retry-after"] then without_retry_after = without_retry_after + 1 end
  else
    others = others + 1
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"seconds": %f, "accepted": %d, "refused": %d, "without_retry_after": %d, "others": %d, "broken": %d, "p99_milliseconds": %f}\n',
    summary.duration / 1e6, worker:get("accepted"), worker:get("refused"), worker:get("without_retry_after"),
    worker:get("others"), errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(99) / 1000))
end
