package redisstore_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// startFake serves answers by the name of the command, in lower case; "" is for all
// others. Answers are in the protocol's form.
func startFake(t *testing.T, answers map[string]string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveFake(conn, answers)
		}
	}()
	return l.Addr().String()
}

func serveFake(conn net.Conn, answers map[string]string) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for {
		words, err := readCommand(in)
		if err != nil {
			return
		}
		answer, ok := answers[strings.ToLower(words[0])]
		if !ok {
			answer = fmt.Sprintf("-ERR unknown command `%s`, with args beginning with: \r\n", words[0])
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

func readCommand(in *bufio.Reader) ([]string, error) {
	number := func() (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number()
	if err != nil {
		return nil, err
	}
	words := make([]string, n)
	for i := range words {
		size, err := number()
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		words[i] = string(text[:size])
	}
	return words, nil
}

func bulk(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }

func hello(server, version string) string {
	return "*4\r\n" + bulk("server") + bulk(server) + bulk("version") + bulk(version)
}

const (
	noShebang = "-ERR Error compiling script (new function): user_script:1: unexpected symbol near '#' \r\n"
	noInfo    = "-NOPERM this user has no permissions to run the 'info' command or its subcommand\r\n"
)

// A server that cannot run the scripts is refused by its name and version, also by
// the first call, and whatever it lets the user see.
func TestRedis_NamesTheServerThatCannotRunItsScripts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers map[string]string
		want    string
	}{
		"Redis 5":                {map[string]string{"info": bulk("redis_version:5.0.14\r\nmaxmemory_policy:noeviction\r\n"), "eval": noShebang}, "Redis 5.0.14 cannot"},
		"Redis 5 without INFO":   {map[string]string{"info": noInfo, "eval": noShebang}, "this server cannot"},
		"Redis 6":                {map[string]string{"hello": hello("redis", "6.2.14"), "info": bulk("redis_version:6.2.14\r\n"), "eval": noShebang}, "Redis 6.2.14 cannot"},
		"Redis 6 without INFO":   {map[string]string{"hello": hello("redis", "6.2.14"), "info": noInfo, "eval": noShebang}, "Redis 6.2.14 cannot"},
		"KeyDB":                  {map[string]string{"hello": hello("redis", "6.3.4"), "info": bulk("redis_version:6.3.4\r\nexecutable:/usr/bin/keydb-server\r\n"), "eval": noShebang}, "KeyDB 6.3.4 cannot"},
		"Kvrocks":                {map[string]string{"info": bulk("version:2.8.0\r\nkvrocks_version:2.8.0\r\nredis_version:4.0.0\r\n")}, "Kvrocks 2.8.0 (as Redis 4.0.0) cannot"},
		"Dragonfly":              {map[string]string{"hello": hello("redis", "7.4.0"), "info": bulk("redis_version:7.4.0\r\ndragonfly_version:df-v1.21.4\r\n"), "eval": noShebang}, "Dragonfly df-v1.21.4 (as Redis 7.4.0) cannot"},
		"miniredis":              {map[string]string{"hello": hello("miniredis", "8.4.0"), "info": bulk("# Clients\r\nconnected_clients:1\r\n"), "eval": noShebang}, "miniredis 8.4.0 cannot"},
		"new, without scripts":   {map[string]string{"hello": hello("other", "7.2.0"), "info": bulk("redis_version:7.2.0\r\nserver_name:other\r\nmaxmemory_policy:noeviction\r\n")}, "other 7.2.0 cannot"},
		"says nothing":           {map[string]string{}, "this server cannot"},
		"INFO of another form":   {map[string]string{"info": bulk("hello"), "eval": noShebang}, "this server cannot"},
		"a version of no number": {map[string]string{"hello": hello("new", "unstable"), "eval": noShebang}, "new unstable cannot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers := map[string]string{
				"ping": "+PONG\r\n", "evalsha": "-NOSCRIPT No matching script. Please use EVAL.\r\n", "config": "*0\r\n", "client": "+OK\r\n",
			}
			if _, scripts := c.answers["eval"]; !scripts {
				delete(answers, "evalsha")
			}
			for command, answer := range c.answers {
				answers[command] = answer
			}
			s := newRedis(t, dialRedis(t, startFake(t, answers)))
			err := s.Check(t.Context())
			require.ErrorIs(t, err, store.ErrUnsafe)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "run the store's scripts: use Redis 7.0 or newer")
			for verb, call := range redisVerbs(s, redisBid("k", "a"), store.Record{}) {
				_, err := call(t.Context())
				require.ErrorContains(t, err, c.want, verb)
			}
		})
	}
}

// A server that runs the scripts, but does not say what the user may, or is not
// Redis, is let in with a warning.
func TestRedis_CheckWarnsOfAServerThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	client.AddHook(infoHook{"redis_version:", "garnet_version:1.0.1\r\nredis_version:"})
	err := newRedis(t, client).Check(t.Context())
	require.ErrorIs(t, err, store.ErrUnverified)
	require.ErrorContains(t, err, "Garnet 1.0.1 (as Redis 7.")
	require.NotErrorIs(t, err, store.ErrUnsafe)
	client = dialRedis(t, startRedis(t))
	client.AddHook(infoHook{"redis_version:", "valkey_version:8.1.0\r\nserver_name:valkey\r\nredis_version:"})
	require.NoError(t, newRedis(t, client).Check(t.Context()))
}
