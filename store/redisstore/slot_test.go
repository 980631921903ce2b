package redisstore

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedisSlot_IsThatOfTheSpecification(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, 0x31c3, crc16("123456789"))
	for name, slot := range map[string]int{
		"": 0, "foo": 12182, "{foo}bar": 12182, "a{foo}": 12182, "{}foo": redisSlot("{}foo"), "a{{foo}}": redisSlot("x{{foo}y"),
	} {
		require.Equal(t, slot, redisSlot(name), name)
	}
	require.NotEqual(t, redisSlot("foo"), redisSlot("{}foo"))
}

func TestNamePerSlot_IsInItsSlot(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"atmostonce:", "", "a{", "a{}b:", "}{x", "日本:"} {
		first := prefix + "open"
		names := namePerSlot(prefix, "open", first)
		seen := map[string]bool{}
		for slot, name := range *names {
			require.Equal(t, slot, redisSlot(name), name)
			seen[name] = true
		}
		require.Len(t, seen, redisSlots)
		require.True(t, seen[first])
	}
	names := namePerSlot("{tag}:", "open", "{tag}:open")
	for i := range 100 {
		require.Equal(t, "{tag}:open", names[redisSlot(fmt.Sprintf("{tag}:{%d}", i))])
	}
}
