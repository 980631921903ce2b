package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
	"go.temporal.io/sdk/contrib/envconfig"
)

// profile is the section [profile.NAME.atmostonce] of Temporal's configuration file.
type profile struct {
	Store        string      `toml:"store"`         // URL; it may have a password
	Username     string      `toml:"username"`      // in place of the URL's
	Password     string      `toml:"password"`      // likewise
	PasswordFile string      `toml:"password_file"` // file that has it
	Prefix       string      `toml:"prefix"`        // redisstore.Options.Prefix, sqlstore.Options.Prefix
	Operator     string      `toml:"operator"`
	Audit        string      `toml:"audit"`
	SettleDelay  string      `toml:"settle_delay"`
	UI           string      `toml:"ui"`    // of Temporal's web UI: its URL
	Trace        string      `toml:"trace"` // of the trace viewer: a URL with {trace} in it
	TLS          *profileTLS `toml:"tls"`   // to the store
}

// profileTLS has the names of Temporal's own section tls.
type profileTLS struct {
	CertPath   string `toml:"client_cert_path"`
	KeyPath    string `toml:"client_key_path"`
	CAPath     string `toml:"server_ca_cert_path"`
	ServerName string `toml:"server_name"`
	Unverified bool   `toml:"disable_host_verification"`
}

// loadProfile reads the section of the profile, and puts the environment over it.
func loadProfile(h hostFlags, env func(string) string) (profile, error) {
	p := profile{}
	if !h.noConfigFile {
		path, name, err := configFile(h, env)
		if err != nil {
			return p, err
		}
		if p, err = readProfile(path, name, h.profile != "" || env("TEMPORAL_PROFILE") != ""); err != nil {
			return p, fmt.Errorf("the configuration file %s: %w", path, err)
		}
	}
	for name, field := range map[string]*string{
		"ATMOSTONCE_STORE": &p.Store, "ATMOSTONCE_USERNAME": &p.Username, "ATMOSTONCE_PASSWORD": &p.Password,
		"ATMOSTONCE_OPERATOR": &p.Operator, "ATMOSTONCE_AUDIT": &p.Audit,
		"ATMOSTONCE_UI": &p.UI, "ATMOSTONCE_TRACE": &p.Trace,
	} {
		if value := env(name); value != "" {
			*field = value
		}
	}
	if p.Password == "" && p.PasswordFile != "" {
		text, err := os.ReadFile(p.PasswordFile)
		if err != nil {
			return p, fmt.Errorf("the password of the store: %w", err)
		}
		p.Password = strings.TrimRight(string(text), "\r\n")
	}
	return p, nil
}

// configFile returns the path of the configuration file, and the name of the profile.
func configFile(h hostFlags, env func(string) string) (path, name string, err error) {
	if path = h.configFile; path == "" {
		path = env("TEMPORAL_CONFIG_FILE")
	}
	if path == "" {
		path = envconfig.DefaultConfigFilePath()
	} else if _, err := os.Stat(path); err != nil {
		return "", "", fmt.Errorf("the configuration file: %w", err)
	}
	if name = h.profile; name == "" {
		name = env("TEMPORAL_PROFILE")
	}
	if name == "" {
		name = envconfig.DefaultConfigFileProfile
	}
	return path, name, nil
}

// readProfile reads one section. must says that somebody has asked for the profile.
func readProfile(path, name string, must bool) (profile, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || path == "" {
		if must {
			return profile{}, fmt.Errorf("there is no profile %q, and no file", name)
		}
		return profile{}, nil
	} else if err != nil {
		return profile{}, err
	}
	var all struct {
		Profile map[string]struct {
			AtMostOnce profile `toml:"atmostonce"`
		} `toml:"profile"`
	}
	known, err := toml.Decode(string(text), &all)
	if bad := (toml.ParseError{}); errors.As(err, &bad) { // its text may quote a password
		return profile{}, fmt.Errorf("line %d is no TOML, or of the wrong type", bad.Position.Line)
	} else if err != nil {
		return profile{}, errors.New("it is no TOML, or of the wrong type")
	}
	section, found := all.Profile[name]
	if !found && must {
		return profile{}, fmt.Errorf("there is no profile %q", name)
	}
	for _, key := range known.Undecoded() {
		if len(key) > 3 && key[0] == "profile" && key[1] == name && key[2] == "atmostonce" {
			return profile{}, fmt.Errorf("there is no setting %s", key)
		}
	}
	return section.AtMostOnce, nil
}

// directory is where a store of files is; ok is false if the store is not opened here, by
// URL.
func (t *tool) directory() (dir string, ok bool) {
	text := t.profile.Store
	if t.own.store != "" {
		text = t.own.store
	}
	address, err := url.Parse(text)
	if err != nil || t.options.Store != nil {
		return "", false
	}
	return directoryOf(address), true
}

func directoryOf(address *url.URL) string {
	if address.Opaque != "" {
		return address.Opaque
	}
	return address.Path
}
