package interceptor_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// headed is a payload as a header has it.
func headed(data string) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(data)}
}

// headerScene is a guard, and what its activity did and its observer got.
type headerScene struct {
	payments
	store   *store.Memory
	guard   *interceptor.Guard
	notices *watch
}

func newHeaderScene(t *testing.T, p once.Policy) *headerScene {
	t.Helper()
	s := &headerScene{store: memory(), notices: newWatch(observe.KindNotice)}
	o := options(once.Mark(p, "ChargeCard"))
	o.Observers = []observe.Observer{s.notices}
	s.guard = newGuard(t, s.store, o)
	return s
}

// told returns the notices since its last call.
func (s *headerScene) told() (what []observe.Notice) {
	for len(s.notices.ended) > 0 {
		what = append(what, (<-s.notices.ended).Notice)
	}
	return what
}

// call makes a call with that header, none if it is nil. Each call has a time
// of scheduling of its own, and so is no retry of another one.
func (s *headerScene) call(t *testing.T, local bool, header *commonpb.Payload) error {
	t.Helper()
	env := environment(t, s.guard)
	fields := map[string]*commonpb.Payload{}
	if header != nil {
		fields["atmostonce"] = header
	}
	env.SetHeader(&commonpb.Header{Fields: fields})
	env.RegisterActivity(s.ChargeCard)
	execute := env.ExecuteActivity
	if local {
		execute = env.ExecuteLocalActivity
	}
	_, err := execute(s.ChargeCard, order(7))
	return err
}

func TestHeader_TellsTheCallAgain(t *testing.T) {
	t.Parallel()
	first := headed(`{"originalRunId":"o","firstRunId":"f","occurrence":1,"input":1}`)
	second := headed(`{"originalRunId":"o","firstRunId":"f","occurrence":2,"input":1,"later":true}`)
	stranger := headed(`{"originalRunId":"p","firstRunId":"f","occurrence":1,"input":1}`)
	for name, tc := range map[string]struct {
		policy  once.Policy
		again   *commonpb.Payload
		charges int
		reason  once.Reason
		notices []observe.Notice
	}{
		"PerWorkflow, the call":             {once.Policy{}, first, 1, "", nil},
		"PerWorkflow, its equal":            {once.Policy{}, second, 1, "", []observe.Notice{observe.SameRun}},
		"PerWorkflow and Reject, the call":  {once.Policy{OnDuplicate: once.Reject}, first, 1, "", nil},
		"PerWorkflow and Reject, its equal": {once.Policy{OnDuplicate: once.Reject}, second, 1, once.Duplicate, nil},
		"PerRun, the call":                  {once.Policy{Scope: keys.PerRun}, first, 1, "", nil},
		"PerRun, its equal":                 {once.Policy{Scope: keys.PerRun}, second, 1, "", nil},
		"PerRun, another run's":             {once.Policy{Scope: keys.PerRun}, stranger, 2, "", nil},
		"PerCall, the call":                 {once.Policy{Scope: keys.PerCall}, first, 1, "", nil},
		"PerCall, its equal":                {once.Policy{Scope: keys.PerCall}, second, 2, "", nil},
		"PerCall, another run's":            {once.Policy{Scope: keys.PerCall}, stranger, 2, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newHeaderScene(t, tc.policy)
			require.NoError(t, s.call(t, false, first))
			err := s.call(t, false, tc.again)
			if tc.reason != "" {
				requireReason(t, err, tc.reason, false)
			} else {
				require.NoError(t, err)
			}
			require.Len(t, s.charges, tc.charges)
			require.Equal(t, tc.notices, s.told())
		})
	}
}

// The occurrence of both calls is 1, and they have one key.
func TestHeader_OccurrencesOfOtherCallsSayNothing(t *testing.T) {
	t.Parallel()
	p := once.Policy{Key: keys.From(byOrder), Scope: keys.PerWorkflow, Match: keys.Any(), OnDuplicate: once.Reject}
	asked := p
	asked.Match = keys.Func{}
	for name, tc := range map[string]struct {
		policy  once.Policy
		second  func(workflow.Context) workflow.Future
		refused once.Reason
	}{
		"other input":             {p, remotely("ChargeCard", charge{"7", 20}), once.Duplicate},
		"other input that counts": {asked, remotely("ChargeCard", charge{"7", 20}), once.Mismatch},
		"another activity":        {p, remotely("Refund", charge{"7", 10}), once.Duplicate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made := &payments{}
			g := newGuard(t, memory(), options(once.Mark(tc.policy, "ChargeCard", once.As("ChargeCard", "Refund"))))
			env := workflowEnvironment(t, g)
			env.RegisterActivity(made)
			err := calls(t, env, remotely("ChargeCard", charge{"7", 10}), tc.second)
			require.True(t, once.Is(err, tc.refused), "%v", err)
			require.Equal(t, []string{"7"}, made.charges)
		})
	}
}

func TestHeader_IsNotTrustedByHalf(t *testing.T) {
	t.Parallel()
	whole := `{"originalRunId":"o","firstRunId":"f","occurrence":1,"input":1}`
	encoded := headed(whole)
	encoded.Metadata["encoding"] = []byte("binary/encrypted")
	for name, header := range map[string]*commonpb.Payload{
		"none": nil, "empty": headed(``), "null": headed(`null`), "not an object": headed(`7`), "encoded": encoded,
		"no payload": {}, "no metadata": {Data: []byte(whole)},
		"no occurrence":       headed(`{"originalRunId":"o","firstRunId":"f","input":1}`),
		"no input":            headed(`{"originalRunId":"o","firstRunId":"f","occurrence":1}`),
		"occurrence 0":        headed(`{"originalRunId":"o","firstRunId":"f","occurrence":0,"input":1}`),
		"occurrence below 0":  headed(`{"originalRunId":"o","firstRunId":"f","occurrence":-1,"input":1}`),
		"occurrence too high": headed(`{"originalRunId":"o","firstRunId":"f","occurrence":4294967297,"input":1}`),
		"occurrence a text":   headed(`{"originalRunId":"o","firstRunId":"f","occurrence":"1","input":1}`),
		"no original run":     headed(`{"firstRunId":"f","occurrence":1,"input":1}`),
		"no first run":        headed(`{"originalRunId":"o","occurrence":1,"input":1}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, tc := range []struct {
				scope keys.Scope
				key   string
				times int
			}{
				{keys.PerRun, `^v1/default-test-namespace/r:` + testRun + `/`, 1},
				{keys.PerCall, `^v1/default-test-namespace/c:` + testRun + `:[^:/]+:\d+/`, 2},
			} {
				s := newHeaderScene(t, once.Policy{Scope: tc.scope})
				for range 2 {
					require.NoError(t, s.call(t, false, header))
				}
				require.Len(t, s.charges, tc.times)
				require.Equal(t, header == nil, receive(t, s.notices.ended).Err == nil)
				require.Equal(t, []observe.Notice{observe.NoHeader}, s.told())
				for r, err := range s.store.List(t.Context(), store.Query{}) {
					require.NoError(t, err)
					require.Regexp(t, tc.key, r.Key)
					require.Empty(t, r.Info.Holder.OriginalRunID)
					require.Zero(t, r.Info.Holder.Occurrence)
				}
			}
			s := newHeaderScene(t, once.Policy{Scope: keys.PerCall})
			requireReason(t, s.call(t, true, header), once.BadKey, false)
			require.Empty(t, s.charges)

			s = newHeaderScene(t, once.Policy{})
			require.NoError(t, s.call(t, false, header))
			require.Empty(t, s.told(), "PerWorkflow needs no header")
		})
	}
}

func TestHeader_NamesALocalCallInItsRun(t *testing.T) {
	t.Parallel()
	first := headed(`{"originalRunId":"o","firstRunId":"f","occurrence":1,"input":1}`)
	second := headed(`{"originalRunId":"o","firstRunId":"f","occurrence":2,"input":1}`)
	for name, tc := range map[string]struct {
		before, again *commonpb.Payload
		reason        once.Reason
	}{
		"the call":           {first, first, ""},
		"its equal":          {first, second, once.Duplicate},
		"no header":          {nil, nil, ""},
		"no header at first": {nil, second, ""},
		"no header later":    {second, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newHeaderScene(t, once.Policy{OnDuplicate: once.Reject})
			require.NoError(t, s.call(t, true, tc.before))
			err := s.call(t, true, tc.again)
			if tc.reason != "" {
				requireReason(t, err, tc.reason, false)
			} else {
				require.NoError(t, err)
			}
			require.Len(t, s.charges, 1)
		})
	}
}

func TestFromCall_SeesTheHeader(t *testing.T) {
	t.Parallel()
	var seen []keys.Call
	s := newHeaderScene(t, once.Policy{Scope: keys.PerNamespace, Key: keys.FromCall(func(c keys.Call) (string, error) {
		seen = append(seen, c)
		return keys.Join("charge", c.FirstRunID), nil
	}), Match: keys.Any()})
	require.NoError(t, s.call(t, false, headed(`{"originalRunId":"o","firstRunId":"f","occurrence":3,"input":1}`)))
	require.NoError(t, s.call(t, false, nil))
	require.Equal(t, []any{"o", "f", int32(1<<15 | 3)}, []any{seen[0].OriginalRunID, seen[0].FirstRunID, seen[0].Occurrence})
	require.Equal(t, testRun, seen[0].RunID)
	require.Equal(t, []any{"", "", int32(0)}, []any{seen[1].OriginalRunID, seen[1].FirstRunID, seen[1].Occurrence})
}
