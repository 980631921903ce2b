package sqlstore

import (
	"fmt"

	"github.com/atmostonce/atmostonce/store"
)

// failure gives an error of the database the store's sentinel, and says what to do. It
// shows no key.
func (t table) failure(doing string, err error) error {
	if err == nil {
		return nil
	}
	switch t.dialect.kindOf(err) {
	case noTable:
		return fmt.Errorf("store: sql: %s: %w: there is no table %s, or it is another one: run Migrations, or Store.Migrate: %w", doing, store.ErrUnsafe, t.dialect.records, err)
	case denied:
		return fmt.Errorf("store: sql: %s: %w: the role needs SELECT, INSERT, UPDATE and DELETE on %s, and USAGE of its schema: %w", doing, store.ErrDenied, t.dialect.records, err)
	case readOnly:
		return fmt.Errorf("store: sql: %s: %w: the database is read-only, a replica perhaps: connect to the primary: %w", doing, store.ErrUnsafe, err)
	case full:
		return fmt.Errorf("store: sql: %s: %w: %w", doing, store.ErrFull, err)
	case noLogin:
		return fmt.Errorf("store: sql: %s: the database does not let this user in, or is not there: see the DSN: %w", doing, err)
	case busy:
		return fmt.Errorf("store: sql: %s: the database gave the statement up after its lock or statement timeout: %w", doing, err)
	}
	return fmt.Errorf("store: sql: %s: %w", doing, err)
}
