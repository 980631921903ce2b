package cli

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // which registers itself as sqlite

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/sqlstore"
)

// maxConnections of a database are enough for a page and its reader.
const maxConnections = 4

func openPostgres(ctx context.Context, address *url.URL, p profile) (store.Store, io.Closer, error) {
	address, own := sqlQuery(address, p)
	c, err := pgx.ParseConfig(address.String())
	if err != nil {
		return nil, nil, errURL
	}
	c.ConnectTimeout = dialTime
	if p.TLS != nil {
		if c.TLSConfig == nil {
			c.TLSConfig = newTLS(c.Host)
		}
		if err := p.TLS.apply(&c.TLSConfig); err != nil {
			return nil, nil, err
		}
		for _, other := range c.Fallbacks { // other hosts, and the same one without TLS
			other.TLSConfig = c.TLSConfig.Clone()
			if p.TLS.ServerName == "" {
				other.TLSConfig.ServerName = other.Host
			}
		}
	}
	return database(ctx, stdlib.OpenDB(*c), sqlstore.PostgreSQL, own)
}

func openMySQL(ctx context.Context, address *url.URL, p profile) (store.Store, io.Closer, error) {
	address, own := sqlQuery(address, p)
	host, port := address.Hostname(), address.Port()
	if port == "" {
		port = "3306"
	}
	c, err := mysql.ParseDSN("tcp(" + net.JoinHostPort(host, port) + ")" + address.EscapedPath() + "?" + address.RawQuery)
	if err != nil || address.Path == "" {
		return nil, nil, errURL
	}
	c.User, c.Timeout, c.Logger = address.User.Username(), dialTime, quiet{}
	c.Passwd, _ = address.User.Password()
	if p.TLS != nil {
		if c.TLS == nil {
			c.TLS = newTLS(host)
		}
		if err := p.TLS.apply(&c.TLS); err != nil {
			return nil, nil, err
		}
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, nil, errURL
	}
	return database(ctx, sql.OpenDB(connector), sqlstore.MySQL, own)
}

// openSQLite opens a file that is there: an empty one made of a slip of the pen would
// say that nothing is in doubt.
func openSQLite(ctx context.Context, address *url.URL, p profile) (store.Store, io.Closer, error) {
	_, own := sqlQuery(address, p)
	file := directoryOf(address)
	if info, err := os.Stat(file); err != nil {
		return nil, nil, err
	} else if !info.Mode().IsRegular() {
		return nil, nil, errors.New("it is no file")
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?mode=rw&_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, nil, errURL
	}
	return database(ctx, db, sqlstore.SQLite, own)
}

// sqlQuery takes what is not the driver's out of a URL: the schema of the table, and the
// prefix of its name.
func sqlQuery(address *url.URL, p profile) (rest *url.URL, own sqlstore.Options) {
	copied := *address
	q := copied.Query()
	if own = (sqlstore.Options{Schema: q.Get("schema"), Prefix: q.Get("prefix")}); own.Prefix == "" {
		own.Prefix = p.Prefix
	}
	q.Del("schema")
	q.Del("prefix")
	copied.RawQuery = q.Encode()
	return &copied, own
}

// database returns a store in a database that answers.
func database(ctx context.Context, db *sql.DB, d sqlstore.Dialect, o sqlstore.Options) (store.Store, io.Closer, error) {
	db.SetMaxOpenConns(maxConnections)
	asking, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := db.PingContext(asking); err != nil {
		_ = db.Close()
		return nil, nil, errors.New("it does not answer: " + strings.Join(strings.Fields(err.Error()), " ")) // pgx's has a line for each host
	}
	s, err := sqlstore.New(db, d, o)
	if err != nil {
		_ = db.Close()
		return nil, nil, err
	}
	return s, db, nil
}
