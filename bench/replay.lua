-- Sends prepared requests in a prepared order, and prints the results as one line of JSON.
--   wrk -s replay.lua URL -- REQUESTS ORDER START
-- REQUESTS: for each request its length in decimal, a newline, and its bytes. ORDER: numbers of requests, from 0, a line
-- each; past the last it begins again. START: the position in ORDER to begin with.

local requests, order, position = {}, {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  while true do
    local length = file:read("*l")
    if not length then break end
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
  for number in io.lines(args[2]) do order[#order + 1] = tonumber(number) + 1 end
  position = tonumber(args[3]) % #order
end

function request()
  position = position % #order + 1
  return requests[order[position]]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50": %.6f, "p99": %.6f, "most": %.6f, "not_2xx": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
