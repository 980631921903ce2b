-- settle: writes what came of the act.
--
-- ARGV[1..5]  the bid
-- ARGV[6]     state of the outcome: succeeded, failed, in_doubt or pending
-- ARGV[7]     the outcome as in a record; empty: it says nothing
-- Verdicts    superseded, conflict

local outcome = {state = ARGV[6], said = ARGV[7] ~= '' and ARGV[7] or nil}

-- said_before reports whether an owner that finds the record settled says nothing
-- new.
local function said_before(settled, by)
  if by == 'superseded' then
    return outcome.state ~= 'succeeded'
  end
  return (by or '') == '' or by == 'reconcile' and settled == outcome.state
end

-- heard reports whether the event overrode what its owner had settled to.
local function heard(e)
  if e.what ~= 'resolved' and e.what ~= 'erased' and e.what ~= 'taken_over' then
    return false
  elseif e.from == 'succeeded' or e.from == 'failed' then
    return said_before(e.from, e.from_by)
  end
  return e.from == outcome.state
end

-- settled_before recognizes the repetition of a settle that was already heard.
local function settled_before()
  for _, e in ipairs(history) do
    if e.owner == owner then
      if e.what == 'conflict' and outcome.state == 'succeeded' then
        return true, 'conflict'
      elseif heard(e) then
        return true, ''
      end
    end
  end
  if not owns() then
    return false
  elseif r.state == 'succeeded' or r.state == 'failed' then
    return said_before(r.state, r.by), ''
  elseif r.state == 'in_doubt' then
    return (outcome.state == 'in_doubt' or outcome.state == 'pending') and not r.marked, ''
  end
  return r.state == outcome.state, ''
end

local function conflict()
  note({what = 'conflict', from = r.state, owner = owner, fence = fence})
  revise()
end

-- settle_own hears the owner, or what used to be the owner before a resolve.
local function settle_own()
  if r.state == 'running' or r.state == 'in_doubt' or r.state == 'pending' then
    if r.kept and (outcome.state == 'failed' or outcome.state == 'in_doubt') then
      adopt()
    else
      put(outcome.state, outcome.said)
    end
    return ''
  elseif outcome.state ~= 'succeeded' then
    return 'superseded'
  elseif r.state == 'tombstone' then
    info = bid_info -- it may have been erased
    put(outcome.state, outcome.said)
    return ''
  end
  conflict()
  return 'conflict'
end

-- settle_late keeps the success of a claim that somebody has superseded.
local function settle_late()
  conflict()
  if r.state == 'tombstone' or r.state == 'in_doubt' then
    note_replaced()
    r.owner, info = owner, bid_info
    put(outcome.state, outcome.said)
  elseif (r.state == 'running' or r.state == 'pending') and not r.kept then
    r.kept = outcome.said or '\0'
  end
end

local done, verdict = settled_before()
if done then
  return reply(verdict)
elseif not r.state then
  create(ttl)
  r.forgotten = true
  note({what = 'forgotten', owner = owner, fence = fence})
  put(outcome.state, outcome.said)
elseif owns() then
  verdict = settle_own()
  if verdict == 'superseded' then
    return reply(verdict)
  end
elseif outcome.state ~= 'succeeded' then
  return reply('superseded')
else
  settle_late()
  verdict = 'conflict'
end
extend(ttl)
return reply(verdict or '')
