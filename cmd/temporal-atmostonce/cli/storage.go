package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/atmostonce/atmostonce/store"
)

// opener opens the store that a URL names. Its errors do not quote the URL, which may
// have a password.
type opener func(ctx context.Context, address *url.URL, p profile) (store.Store, io.Closer, error)

// openers are the kinds of stores, by the scheme of their URLs.
var openers = map[string]opener{
	"file":           openFile,
	"redis":          openRedis,
	"rediss":         openRedis,
	"redis-sentinel": openSentinel,
	"redis-cluster":  openCluster,
	"postgres":       openPostgres,
	"postgresql":     openPostgres,
	"mysql":          openMySQL,
	"sqlite":         openSQLite,
}

// schemes are those of the openers, in order.
func schemes() (all []string) {
	for scheme := range openers {
		all = append(all, scheme+":")
	}
	slices.Sort(all)
	return all
}

// openStore opens the store of the profile. flag is what --store says.
func openStore(ctx context.Context, flag string, p profile) (store.Store, io.Closer, error) {
	text := p.Store
	if flag != "" {
		text = flag
	}
	if text == "" {
		return nil, nil, usage(errors.New("which store? Give --store URL, or set ATMOSTONCE_STORE, or store in [profile.default.atmostonce] of Temporal's configuration file"))
	}
	address, err := url.Parse(text)
	if err != nil {
		return nil, nil, usage(errors.New("the URL of the store cannot be read (it is not shown, since it may have a password)"))
	}
	if flag != "" && hasPassword(address) {
		return nil, nil, usage(errors.New("--store has a password, which everybody on this host can read: set ATMOSTONCE_PASSWORD, or ATMOSTONCE_STORE, or password_file in the profile"))
	}
	open, known := openers[address.Scheme]
	if !known {
		return nil, nil, usage(fmt.Errorf("no store has the scheme %q: it is one of %s", address.Scheme, strings.Join(schemes(), " ")))
	}
	if p.Password != "" || p.Username != "" {
		name := address.User.Username()
		if p.Username != "" {
			name = p.Username
		}
		password := p.Password
		if password == "" {
			password, _ = address.User.Password()
		}
		address.User = url.UserPassword(name, password)
	}
	s, closer, err := open(ctx, address, p)
	if err != nil {
		return nil, nil, fmt.Errorf("the store %s: %w", where(address), err)
	}
	return s, closer, nil
}

// hasPassword reports whether a URL has a password, which some drivers take from the query.
func hasPassword(address *url.URL) bool {
	_, has := address.User.Password()
	for name := range address.Query() {
		has = has || strings.Contains(strings.ToLower(name), "password")
	}
	return has
}

// where is a URL as it may be shown.
func where(address *url.URL) string {
	return (&url.URL{Scheme: address.Scheme, Opaque: address.Opaque, Host: address.Host, Path: address.Path}).String()
}

// openFile opens a directory that is there: an empty one made of a slip of the pen
// would say that nothing is in doubt.
func openFile(_ context.Context, address *url.URL, _ profile) (store.Store, io.Closer, error) {
	dir := directoryOf(address)
	if info, err := os.Stat(dir); err != nil {
		return nil, nil, err
	} else if !info.IsDir() {
		return nil, nil, errors.New("it is no directory")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	if len(entries) == 0 {
		return nil, nil, errors.New("the directory is empty: no store was ever opened there")
	}
	f, err := store.NewFile(dir, store.FileOptions{AnyFileSystem: address.Query().Get("any_file_system") == "true"})
	if err != nil {
		return nil, nil, err
	}
	return f, f, nil
}
