package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"

	"github.com/atmostonce/atmostonce/internal/ops"
)

// auditLog gets a line for each decision. It is open before anything is decided.
type auditLog struct {
	to   io.Writer
	file *os.File // nil: it is standard error
}

func (t *tool) openAudit() (auditLog, error) {
	path := t.own.audit
	if path == "" {
		path = t.profile.Audit
	}
	if path == "" {
		return auditLog{to: t.err}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return auditLog{}, fmt.Errorf("the audit log, so nothing is decided: %w", err)
	}
	return auditLog{f, f}, nil
}

// write adds an entry. One that cannot be kept is an error after the decision.
func (a auditLog) write(e ops.Entry) error {
	line, err := ops.JSON(e)
	if err == nil {
		_, err = a.to.Write(append(line, '\n'))
	}
	if err == nil && a.file != nil {
		err = a.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("the audit log has no line of this: %w", err)
	}
	return nil
}

func (a auditLog) close() {
	if a.file != nil {
		_ = a.file.Close()
	}
}

// operatorName is who decides: as the command line says, the environment or the
// profile, else the user of the operating system.
func (t *tool) operatorName() (string, error) {
	for _, name := range []string{t.own.operator, t.profile.Operator} {
		if name != "" {
			return name, nil
		}
	}
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	} else if os.Getuid() < 0 {
		return "", usage(errors.New("who decides? Give --operator"))
	}
	if sudo := t.env("SUDO_USER"); sudo != "" && sudo != name {
		name = sudo + " as " + name
	}
	return name, nil
}
