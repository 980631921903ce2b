package txn

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Errors of this package. Find them with errors.Is.
var (
	// ErrUnguarded: the context belongs to no guarded call, so that nothing says which
	// effect it is. The transaction was not begun.
	ErrUnguarded = errors.New("txn: the context belongs to no guarded call")
	// ErrSecond: the call, or its step, has had its effect. A second one needs a step of
	// its own.
	ErrSecond = errors.New("txn: this call has had its effect; have each further one in a step of its own: atmostonce.Step")
	// ErrTaken is what Done answers where the effect took place already, or another run
	// was let in: roll back, and return the error. The guard then answers the call with the
	// result that is there.
	ErrTaken = errors.New("txn: the effect of this call took place already, or is another run's: roll back; if it is a second effect, have it in a step of its own: atmostonce.Step")
	// ErrBarred: another run of the call was let in, on the certainty that this one
	// leaves no effect. Its transaction was rolled back.
	ErrBarred = errors.New("txn: this run was given up, and its effect barred")
	// ErrMismatch: the effect took place for a call that does not agree in what
	// Policy.Match compares.
	ErrMismatch = errors.New("txn: the effect took place for a call with other input")
	// ErrEnded: the function ended the transaction, which it must leave to Do. On MySQL a
	// statement that commits, such as CREATE TABLE, does so too; and a function that goes on
	// after the error of a deadlock goes on without a transaction. Nobody can say any more
	// whether its effect took place: the key is in doubt until an operator decides.
	ErrEnded = errors.New("txn: the function ended the transaction, which it must leave to Do: whether its effect took place, only a look at the database can say")
	// ErrPruned: there is no marker, but one of that time may have been pruned.
	ErrPruned = errors.New("txn: there is no marker, but one of that time may have been pruned")
	// ErrResult: the result is not of the type that the guarded function, activity or
	// step returns.
	ErrResult = errors.New("txn: the result is of another type than that of the guarded call")

	// ErrOtherLedger: the policy of the call goes by the ledger of another database, or,
	// for Done, by none.
	ErrOtherLedger = errors.New("txn: the policy of the call goes by another ledger")

	// ErrNoTable: the tables are not there. Run the Migrations, or set Options.Apply.
	ErrNoTable = errors.New("txn: the tables are not there: run Migrations, or set Options.Apply")
	// ErrOlderSchema: the tables are those of an older version of this package. Run the
	// Migrations, or set Options.Apply.
	ErrOlderSchema = errors.New("txn: the tables are of an older version: run Migrations, or set Options.Apply")
	// ErrNewerSchema: the tables are those of a newer version of this package.
	ErrNewerSchema = errors.New("txn: the tables are of a newer version than this program knows")
	// ErrUnfit: the tables cannot serve: no primary key, no rights, no transactions, or
	// a database that is read-only.
	ErrUnfit = errors.New("txn: the tables cannot serve")
	// ErrOtherDatabase: the tables are a copy of those of another database. See
	// Options.Adopt.
	ErrOtherDatabase = errors.New("txn: the tables are those of another database")
)

// trouble says what a database's error is about.
type trouble uint8

const (
	unknownTrouble trouble = iota
	conflict               // with another transaction: once more
	duplicateKey
	noTable
	underWay // a transaction
)

// troubleOf reads the codes that the usual drivers give their errors.
func troubleOf(err error) trouble {
	for _, e := range flatten(err) {
		switch e := e.(type) { //nolint:errorlint // flattened
		case interface{ SQLState() string }: // PostgreSQL: pgx, pq
			return ofState(e.SQLState())
		case interface{ Code() int }: // SQLite: modernc.org/sqlite
			return ofSQLite(e.Code(), e.(error).Error())
		}
		v := reflect.Indirect(reflect.ValueOf(e))
		if v.Kind() != reflect.Struct {
			continue
		}
		if n := v.FieldByName("Number"); n.Kind() == reflect.Uint16 { // go-sql-driver/mysql
			return ofMySQL(n.Uint())
		}
		if n := v.FieldByName("ExtendedCode"); n.CanInt() { // mattn/go-sqlite3
			return ofSQLite(int(n.Int()), e.Error())
		}
	}
	return unknownTrouble
}

func flatten(err error) (all []error) {
	if err == nil {
		return nil
	}
	all = []error{err}
	switch e := err.(type) { //nolint:errorlint // one level
	case interface{ Unwrap() error }:
		all = append(all, flatten(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, branch := range e.Unwrap() {
			all = append(all, flatten(branch)...)
		}
	}
	return all
}

func ofState(state string) trouble {
	switch state {
	case "40001", "40P01", "55P03": // serialization failure, deadlock, lock timeout
		return conflict
	case "23505":
		return duplicateKey
	case "42P01", "3F000":
		return noTable
	}
	return unknownTrouble
}

func ofMySQL(number uint64) trouble {
	switch number {
	case 1213, 1205, 1020: // deadlock, lock timeout, the record has changed since it was read
		return conflict
	case 1062:
		return duplicateKey
	case 1568:
		return underWay
	case 1146, 1049, 1044:
		return noTable
	}
	return unknownTrouble
}

func ofSQLite(code int, text string) trouble {
	switch {
	case code&0xff == 5, code&0xff == 6: // busy, locked
		return conflict
	case code == 1555, code == 2067:
		return duplicateKey
	case strings.Contains(text, "no such table"):
		return noTable
	}
	return unknownTrouble
}

// within returns err, and why ctx has ended if it has.
func within(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// againError is of a transaction that did not take place and may be tried again.
type againError struct{ error }

func (e *againError) Unwrap() error { return e.error }

// mayRetry reports whether the transaction that ended with err may be tried again.
func mayRetry(err error) bool {
	var again *againError
	return errors.As(err, &again) || troubleOf(err) == conflict
}

// answered reports whether err is an answer of the database, and not of the way to it.
func answered(err error) bool {
	for _, e := range flatten(err) {
		if s, ok := e.(interface{ SQLState() string }); ok {
			switch state := s.SQLState(); {
			case strings.HasPrefix(state, "08"), strings.HasPrefix(state, "57"), state == "40003":
				return false // no connection, a shutdown, not known
			}
			return true
		}
		if v := reflect.Indirect(reflect.ValueOf(e)); v.Kind() == reflect.Struct && v.FieldByName("Number").Kind() == reflect.Uint16 {
			return true
		}
		if _, ok := e.(interface{ Code() int }); ok {
			return true
		}
	}
	return false
}
