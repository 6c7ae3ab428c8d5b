-- Cycles through the bodies of a file, one a line, and says the outcome as one line of JSON.
-- Used by benchmarks/wrk.py:  wrk ... -s wrk.lua URL -- PATH FILE

local prepared = {}
local at = 0

function init(args)
  local headers = { ["Content-Type"] = "application/json" }
  for body in io.lines(args[2]) do
    prepared[#prepared + 1] = wrk.format("POST", args[1], headers, body)
  end
end

function request()
  at = at % #prepared + 1
  return prepared[at]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
