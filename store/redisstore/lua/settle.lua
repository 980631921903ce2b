-- settle: writes what came of the act.
--
-- ARGV[2..7]  the bid
-- ARGV[8]     state of the outcome: succeeded, failed, in_doubt or pending
-- ARGV[9]     empty: the outcome has no data
-- ARGV[10]    its data, any bytes
-- ARGV[11]    its context
-- ARGV[12]    why its data is missing
-- Verdicts    superseded, conflict

local function given(v)
  return v ~= '' and v or nil
end

local outcome = {
  state = ARGV[8], data = ARGV[9] ~= '' and ARGV[10] or nil,
  context = given(ARGV[11]), missing = given(ARGV[12]),
}

-- said_before reports whether an owner that finds the record settled says nothing
-- new.
local function said_before(settled, by)
  if by == 'superseded' then
    return outcome.state ~= 'succeeded'
  end
  return not by or by == 'reconcile' and settled == outcome.state
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
    return said_before(r.state, h.by), ''
  elseif r.state == 'in_doubt' then
    return (outcome.state == 'in_doubt' or outcome.state == 'pending') and r.marked == '', ''
  end
  return r.state == outcome.state, ''
end

local function put_given()
  put(outcome)
  echo.outcome = outcome.state == 'succeeded' or outcome.state == 'failed'
end

local function conflict()
  note({what = 'conflict', from = r.state, owner = owner, fence = fence ~= '0' and fence or nil})
  revise()
end

-- settle_own hears the owner, or what used to be the owner before a resolve.
local function settle_own()
  if r.state == 'running' or r.state == 'in_doubt' or r.state == 'pending' then
    if r.kept ~= '' and (outcome.state == 'failed' or outcome.state == 'in_doubt') then
      adopt()
    else
      put_given()
    end
    return ''
  elseif outcome.state ~= 'succeeded' then
    return 'superseded'
  elseif r.state == 'tombstone' then
    set_info() -- it may have been erased
    put_given()
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
    r.owner = owner
    set_info()
    put_given()
  elseif (r.state == 'running' or r.state == 'pending') and r.kept == '' then
    keep(outcome)
  end
end

local done, verdict = settled_before()
if done then
  return reply(verdict)
elseif not r.state then
  create(ttl)
  r.forgotten = 'f'
  note({what = 'forgotten', owner = owner, fence = fence ~= '0' and fence or nil})
  put_given()
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
