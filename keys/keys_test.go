package keys_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/keys"
)

type charge struct{ OrderID string }

func call() keys.Call {
	return keys.Call{
		Namespace: "default", WorkflowID: "order/7", RunID: "run-1", ActivityID: "5",
		Activity: "ChargeCard", Args: []any{charge{OrderID: "o 7"}}, Input: "abc",
		Scheduled: time.Unix(1, 2),
	}
}

// The strings are persistent: a change of any of them makes every effect
// happen again.
func TestMake_GoldenVectors(t *testing.T) {
	t.Parallel()
	order := keys.From(func(in charge) string { return in.OrderID })
	standalone := call()
	standalone.WorkflowID, standalone.RunID, standalone.ActivityRunID = "", "", "arun-1"
	known := call()
	known.RunID, known.OriginalRunID, known.FirstRunID, known.Occurrence = "run-2", "run-1", "run-0", 3
	for _, tc := range []struct {
		scope keys.Scope
		fn    keys.Func
		call  keys.Call
		want  string
	}{
		{keys.PerWorkflow, keys.Hash(), call(), "v1/default/w:order%2F7/ChargeCard/h:abc"},
		{keys.PerWorkflow, keys.Func{}, call(), "v1/default/w:order%2F7/ChargeCard/h:abc"},
		{keys.PerWorkflow, order, call(), "v1/default/w:order%2F7/ChargeCard/k:o%207"},
		{keys.PerNamespace, order, call(), "v1/default/n/ChargeCard/k:o%207"},
		{keys.PerRun, order, call(), "v1/default/r:run-1/ChargeCard/k:o%207"},
		{keys.PerCall, keys.Hash(), call(), "v1/default/c:run-1:5:1000000002/ChargeCard/h:abc"},
		{keys.PerWorkflow, order, known, "v1/default/w:order%2F7/ChargeCard/k:o%207"},
		{keys.PerRun, order, known, "v1/default/r:run-1/ChargeCard/k:o%207"},
		{keys.PerCall, keys.Hash(), known, "v1/default/o:run-1:3/ChargeCard/h:abc"},
		{keys.PerWorkflow, order, standalone, "v1/default/a:5/ChargeCard/k:o%207"},
		{keys.PerRun, order, standalone, "v1/default/s:arun-1/ChargeCard/k:o%207"},
		{keys.PerCall, keys.Hash(), standalone, "v1/default/s:arun-1/ChargeCard/h:abc"},
		{keys.PerNamespace, keys.FromCall(func(c keys.Call) (string, error) {
			return keys.Join(c.TaskQueue, "a/b", "c"), nil
		}), call(), "v1/default/n/ChargeCard/k:%2Fa%252Fb%2Fc%2F"},
	} {
		got, err := keys.Make(tc.scope, tc.fn, tc.call)
		require.NoError(t, err)
		require.Equal(t, tc.want, got)
	}
}

func TestMake_TheHeaderTellsCallsApartAndSurvivesAReset(t *testing.T) {
	t.Parallel()
	headed := func(run string, occurrence int32, change func(*keys.Call)) (k keys.Call) {
		k = call()
		k.RunID, k.OriginalRunID, k.FirstRunID, k.Occurrence = run, "run-1", "run-0", occurrence
		if change != nil {
			change(&k)
		}
		return k
	}
	moved := func(k *keys.Call) { k.ActivityID, k.Scheduled = "8", time.Unix(9, 9) }
	for name, tc := range map[string]struct {
		scope keys.Scope
		a, b  keys.Call
		same  bool
	}{
		"PerRun, reset":                   {keys.PerRun, headed("run-1", 1, nil), headed("run-2", 1, moved), true},
		"PerRun, a call before the guard": {keys.PerRun, call(), headed("run-1", 2, moved), true},
		"PerRun, another run":             {keys.PerRun, call(), headed("run-1", 1, func(k *keys.Call) { k.OriginalRunID = "run-2" }), false},
		"PerCall, reset":                  {keys.PerCall, headed("run-1", 2, nil), headed("run-2", 2, moved), true},
		"PerCall, another occurrence":     {keys.PerCall, headed("run-1", 1, nil), headed("run-1", 2, moved), false},
		"PerCall, another run":            {keys.PerCall, headed("run-1", 1, nil), headed("run-1", 1, func(k *keys.Call) { k.OriginalRunID = "run-2" }), false},
		"PerCall, other input":            {keys.PerCall, headed("run-1", 1, nil), headed("run-1", 1, func(k *keys.Call) { k.Input = "def" }), false},
		"PerCall, another activity":       {keys.PerCall, headed("run-1", 1, nil), headed("run-1", 1, func(k *keys.Call) { k.Activity = "Refund" }), false},
	} {
		a, err := keys.Make(tc.scope, keys.Hash(), tc.a)
		require.NoError(t, err)
		b, err := keys.Make(tc.scope, keys.Hash(), tc.b)
		require.NoError(t, err)
		require.Equal(t, tc.same, a == b, "%s: %s and %s", name, a, b)
	}
}

func TestDownstream_GoldenVector(t *testing.T) {
	t.Parallel()
	require.Equal(t, "9b832978da5ea4e86d552c284597acc92d6ee41067186983bfe4f12b56497cdd",
		keys.Downstream("v1/default/w:order%2F7/ChargeCard/h:abc"))
}

func TestDigest_GoldenVectors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []keys.Arg
		want string
	}{
		"no argument":     {nil, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		"an object":       {json(`{"a":1,"b":"x"}`), "6cd665f0ffb34ddbc26ecb49a0ae2c3a88d49490de4d77f419a1f35b0fa336ba"},
		"a 64-bit ID":     {json(`{"id":1234567890123456789}`), "71152a6c575ea78dda12d9f17b10d9e2d69351f32f781be9218b8621b707fc9f"},
		"the ID before":   {json(`{"id":1234567890123456788}`), "15e677938d6df0b79c5a6d32257957d7ffff3d71486d37a2797db75c70c26e15"},
		"nil":             {[]keys.Arg{{Encoding: "binary/null"}}, "4fa0ff5f80a3bb428c6ebb25bebe358af56294498dd1749f489a90132b01318a"},
		"out of order":    {json(`{"é":[{"b":0,"a":null}],"<":"&\"\\","A":-1.5e+7}`), "a63de6e47278046f207048aa4f184dcc7290e8806ad1e3c740f9df3f10ae8d97"},
		"HTML and quotes": {json(`"<a href=\"x\">\u2028"`), "e34d501894335388ba2b1a497f5d28d97bc0dc2c347e81b2afd0b2cab61282ce"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, keys.Digest(tc.args))
		})
	}
}

func json(data ...string) (args []keys.Arg) {
	for _, d := range data {
		args = append(args, keys.Arg{Encoding: "json/plain", Data: []byte(d)})
	}
	return args
}

func TestDigest_SameInput(t *testing.T) {
	t.Parallel()
	for _, same := range [][2]string{
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`},
		{`{"a":{"c":[1,2],"b":null}}`, " {\n\"a\": {\"b\": null, \"c\": [1, 2]} } "},
		{`{"<":1,"A":{"d":"\\","c":"\""},"é":-1.5e+7}`, ` { "é" : -1.5e+7 , "A" : {"c":"\u0022", "d":"\u005c"} , "\u003c" : 1 } `},
		{`[[],{},{"a":[{"c":1,"b":2}]}]`, `[[],{ },{"a":[{"b":2,"c":1}]}]`},
		{`"a"`, `"\u0061"`},
		{`"/"`, `"\/"`},
		{`"😀"`, `"\ud83d\ude00"`},
		{`[]`, ` [ ] `},
		{`true`, ` true`},
	} {
		require.Equal(t, keys.Digest(json(same[0])), keys.Digest(json(same[1])), "%s and %s", same[0], same[1])
	}
}

func TestDigest_OtherInput(t *testing.T) {
	t.Parallel()
	inputs := map[string][]keys.Arg{
		"no argument": nil, "null": json(`null`), "nil": {{Encoding: "binary/null"}}, "empty slice": json(`[]`),
		"empty object": json(`{}`), "empty string": json(`""`), "zero": json(`0`), "false": json(`false`),
		"5": json(`5`), "5.0": json(`5.0`), "5e0": json(`5e0`), `"5"`: json(`"5"`),
		"two": json(`1`, `2`), "one array": json(`[1,2]`), "swapped": json(`2`, `1`), "joined": json(`12`),
		"id": json(`{"id":1234567890123456789}`), "id - 1": json(`{"id":1234567890123456788}`),
		"repeated name": json(`{"a":1,"a":2}`), "last value": json(`{"a":2}`), "first value": json(`{"a":1}`),
		"repeated apart": json(`{"a":1,"b":0,"a":2}`), "repeated together": json(`{"a":1,"a":2,"b":0}`),
		"lone surrogate": json(`"\ud800"`), "another": json(`"\ud801"`), "replacement": json(`"\ufffd"`),
		"not JSON": json(`{`), "empty": json(``), "binary": {{Encoding: "binary/plain", Data: []byte(`5`)}},
		"proto": {{Encoding: "json/protobuf", Data: []byte(`5`)}},
	}
	seen := map[string]string{}
	for name, args := range inputs {
		digest := keys.Digest(args)
		require.NotContains(t, seen, digest, "%s and %s have one digest", name, seen[digest])
		seen[digest] = name
	}
}

func TestMake_RefusesWhatWouldBeShared(t *testing.T) {
	t.Parallel()
	empty := keys.From(func(charge) string { return "" })
	_, err := keys.Make(keys.PerNamespace, empty, call())
	require.ErrorIs(t, err, keys.ErrEmpty)

	unnamed := keys.From(func(charge) string { return keys.Join("", "") })
	_, err = keys.Make(keys.PerNamespace, unnamed, call())
	require.ErrorIs(t, err, keys.ErrEmpty)

	nobody := call()
	nobody.WorkflowID, nobody.ActivityID = "", ""
	_, err = keys.Make(keys.PerWorkflow, keys.Hash(), nobody)
	require.ErrorContains(t, err, "neither a workflow ID nor an activity ID")

	_, err = keys.Make(0, keys.Hash(), call())
	require.ErrorContains(t, err, "no scope")

	boom := errors.New("boom")
	_, err = keys.Make(keys.PerNamespace, keys.FromCall(func(keys.Call) (string, error) { return "x", boom }), call())
	require.ErrorIs(t, err, boom)
}

func TestFunc_CheckFindsTheWrongType(t *testing.T) {
	t.Parallel()
	order := keys.From(func(in charge) string { return in.OrderID })
	require.NoError(t, order.Check([]reflect.Type{reflect.TypeFor[charge]()}))
	require.NoError(t, keys.Hash().Check(nil))
	require.NoError(t, keys.From(func(any) string { return "x" }).Check([]reflect.Type{reflect.TypeFor[charge]()}))
	require.ErrorContains(t, order.Check([]reflect.Type{reflect.TypeFor[string]()}), "wants keys_test.charge, but the argument is of type string")
	require.ErrorContains(t, order.Check(nil), "there is no argument")
	require.ErrorContains(t, keys.From[charge](nil).Check(nil), "nil key function")
	require.ErrorContains(t, keys.FromCall(nil).Check(nil), "nil key function")
}

type encoded struct{ value charge }

func (e encoded) Get(ptrs ...any) error {
	*ptrs[0].(*charge) = e.value
	return nil
}

func TestFrom_ReadsWhatTheSDKHandsOver(t *testing.T) {
	t.Parallel()
	key := func(fn keys.Func, args ...any) string {
		c := call()
		c.Args = args
		part, err := fn.Part(c)
		require.NoError(t, err)
		return part
	}
	order := keys.From(func(in charge) string { return in.OrderID })
	pointer := keys.From(func(in *charge) string {
		if in == nil {
			return "nil"
		}
		return in.OrderID
	})
	require.Equal(t, "7", key(order, charge{"7"}))
	require.Equal(t, "7", key(order, charge{"7"}, "second"))
	require.Equal(t, "7", key(pointer, &charge{"7"}))
	require.Equal(t, "nil", key(pointer, nil), "a nil pointer arrives without its type")
	require.Equal(t, "7", key(order, encoded{charge{"7"}}), "a dynamic activity's values decode themselves")

	c := call()
	c.Args = []any{42}
	_, err := order.Part(c)
	require.ErrorContains(t, err, "the call has int")
	c.Args = nil
	_, err = order.Part(c)
	require.ErrorContains(t, err, "the call has no argument")
}

func TestFunc_IsComparable(t *testing.T) {
	t.Parallel()
	first, second := keys.Hash(), keys.Hash()
	same := first == second // compiles
	require.True(t, same)
	require.NotEqual(t, keys.Any(), keys.Hash())
	require.True(t, keys.Func{}.IsZero())
	require.False(t, keys.Any().IsZero())
}

func FuzzMake_Injective(f *testing.F) {
	f.Add("default", "a/b", "Charge", "x", "default", "a", "b/Charge", "x")
	f.Add("", "w:", "", "h:abc", "", "", "w:", "abc")
	f.Add("n", "é%", "A", "+ ", "n", "é", "%A", "%20")
	f.Fuzz(func(t *testing.T, ns1, wf1, act1, part1, ns2, wf2, act2, part2 string) {
		const header = 0x80 // marks a scope whose call has the header
		build := func(s keys.Scope, ns, wf, act, part string) string {
			k := keys.Call{Namespace: ns, WorkflowID: wf, RunID: wf, ActivityID: wf, Activity: act}
			if s&header != 0 {
				k.OriginalRunID, k.Occurrence = wf, 1
			}
			got, err := keys.Make(s&^header, keys.FromCall(func(keys.Call) (string, error) { return part, nil }), k)
			if err != nil {
				return ""
			}
			return got
		}
		same := ns1 == ns2 && wf1 == wf2 && act1 == act2 && part1 == part2
		scopes := []keys.Scope{keys.PerWorkflow, keys.PerRun, keys.PerCall, keys.PerCall | header}
		for _, s1 := range scopes {
			for _, s2 := range scopes {
				k1, k2 := build(s1, ns1, wf1, act1, part1), build(s2, ns2, wf2, act2, part2)
				if k1 == "" || k2 == "" {
					continue
				}
				if (k1 == k2) != (same && s1 == s2) {
					t.Fatalf("%v %q and %v %q", s1, k1, s2, k2)
				}
			}
		}
	})
}

func FuzzJoin_Injective(f *testing.F) {
	f.Add("a", "b", "a/b", "")
	f.Add("a/", "b", "a", "/b")
	f.Add("%2F", "", "/", "")
	f.Fuzz(func(t *testing.T, a1, b1, a2, b2 string) {
		same := a1 == a2 && b1 == b2
		if (keys.Join(a1, b1) == keys.Join(a2, b2)) != same {
			t.Fatalf("%q+%q and %q+%q", a1, b1, a2, b2)
		}
		if one := keys.Join(a1 + b1); one != "" && one == keys.Join(a2, b2) {
			t.Fatalf("one part %q and two %q+%q", a1+b1, a2, b2)
		}
	})
}
