-- wrk's own summary has no 99.9th percentile; this is the line that clients.py reads.
function done(summary, latency, requests)
    local e = summary.errors
    print(string.format(
        '{"requests": %d, "errors": %d, "seconds": %.6f, "p50": %d, "p99": %d, "p999": %d}',
        summary.requests, e.connect + e.read + e.write + e.status + e.timeout,
        summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
        latency:percentile(99.9)))
end

-- wrk ... URL -- SIZE: POST so many bytes.
function init(args)
    if args[1] then
        wrk.method = "POST"
        wrk.body = string.rep("x", tonumber(args[1]))
    end
end
