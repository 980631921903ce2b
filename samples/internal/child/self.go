package child

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
)

// Self starts this program as one of its own child processes. Its stderr is
// appended to logFile; each line of its stdout, a JSON object, is given to line.
func Self[Line any](logFile string, line func(pid int, l Line), args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = write, log
	p, err := Start(cmd)
	if err != nil {
		return nil, errors.Join(err, read.Close())
	}
	go func() {
		defer read.Close()
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			var l Line
			// The last line of a process that was killed may be cut off.
			if json.Unmarshal(lines.Bytes(), &l) == nil {
				line(p.PID(), l)
			}
		}
	}()
	return p, nil
}
