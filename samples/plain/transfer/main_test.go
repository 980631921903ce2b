package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && !strings.HasPrefix(os.Args[1], "-") {
		main() // the process that dies
	}
	os.Exit(m.Run())
}

func TestTransfer_HappensOnceWhereverItsProcessDies(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"between debit and credit", "after the commit"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "bank.db")
			died := exec.CommandContext(t.Context(), os.Args[0], file, "transfer-1", place).Run()
			require.ErrorContains(t, died, "killed")
			for range 2 {
				balances, sum, err := transfer(t.Context(), file, "transfer-1", "")
				require.NoError(t, err)
				require.Equal(t, "ann has 700, bob has 300", balances)
				require.Equal(t, 1000, sum)
			}
		})
	}
}
