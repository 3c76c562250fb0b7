-- What enrichers/ adds, and the event's own time as the record's. Lua has no regular expressions: an error's sort is
-- found by words, which is less work than the gateway's patterns.
local WORDS = {
  { "out_of_memory", { "out of memory", "oom", "memoryerror", "cannot allocate memory", "bad_alloc" } },
  { "rate_limit", { "rate limit", "too many requests", "throttl", "quota exceeded", "resource_exhausted" } },
  { "timeout", { "timed out", "timeout", "time out", "deadline exceeded", "took too long" } },
  { "connection", { "connection refused", "connection reset", "connection error", "econn", "broken pipe", "unreachable" } },
  { "permission", { "permission denied", "access denied", "unauthorized", "forbidden", "eacces", "eperm" } },
  { "not_found", { "not found", "no such file", "no such model", "no such key", "does not exist", "enoent" } },
  { "data", { "keyerror", "indexerror", "dtype", "shape mismatch", "has %d+ features", "corrupt", "malformed", "truncated" } },
  { "validation", { "validation", "invalid", "valueerror", "typeerror", "bad request", "out of range", "must be positive" } },
}

local function error_type(message)
  local text = string.lower(message)
  for _, entry in ipairs(WORDS) do
    for _, word in ipairs(entry[2]) do
      if string.find(text, word) then return entry[1] end
    end
  end
  return "unknown"
end

-- Days since 1970 of a date, proleptic Gregorian.
local function days(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

function enrich(tag, timestamp, record)
  local confidence, ms = record["prediction_confidence"], record["inference_time_ms"]
  if confidence ~= nil then
    record["confidence_level"] = confidence >= 0.85 and "high" or confidence >= 0.7 and "medium" or "low"
  end
  if ms ~= nil then
    record["latency_category"] = ms < 50 and "fast" or ms < 200 and "normal" or ms < 1000 and "slow" or "very_slow"
  end
  local predicted, truth = record["prediction_class"], record["true_label"]
  if predicted ~= nil and truth ~= nil then
    local correct = tostring(predicted) == tostring(truth)
    record["prediction_correct"] = correct
    record["prediction_accuracy"] = correct and 1.0 or 0.0
  end
  local message = record["error_message"]
  if message ~= nil and message ~= "" then
    record["error"] = true
    record["error_type"] = error_type(message)
  end
  record["type"] = "model_inference"
  record["received_at"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
  local year, month, day, hour, minute, second =
    string.match(record["timestamp"] or "", "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):([%d.]+)Z$")
  if year == nil then return -1, timestamp, record end
  local seconds = days(tonumber(year), tonumber(month), tonumber(day)) * 86400 + hour * 3600 + minute * 60 + second
  return 1, seconds, record
end
