package databases_test

import (
	"io"
	"log"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	_ "github.com/atmostonce/atmostonce/store/storetest"
)

// The driver prints each connection that breaks, and tests break many.
var _ = mysql.SetLogger(log.New(io.Discard, "", 0))
