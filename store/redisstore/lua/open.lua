-- The index of what is open. The scripts keep it together with the records.
--
-- KEYS[2]  a sorted set of the names of the records that are running, in doubt or
--          pending. A score is when the record came into its state, in µs; less
--          9e15 for in doubt and 4.5e15 for pending, so that each state has a range
--          of its own, in which scores are exact until the year 2112. An entry at
--          -inf says that no open record is missing.

-- place returns the score of the record; nil if it is not open.
local function place()
  if r.state == 'running' then
    return r.claimed
  elseif r.state == 'in_doubt' then
    return r.at - 9e15
  elseif r.state == 'pending' then
    return r.at - 4.5e15
  end
end
