# Shortens the output of go test -v: a line for each package, and the output of
# one that fails. It fails if a package does, if none passed, and if any test was
# skipped, so that a shell without pipefail will do. With -v short=1, for go test
# -short, it counts what was skipped, and does not fail.

/^ *--- SKIP/ {
	skipped = skipped $0 "\n"
	count++
}

/^ok  \t/ || /\t\[no test files\]$/ {
	if (/^ok/) {
		print
		passed = 1
	}
	output = ""
	fflush()
	next
}

!/^ *(=== |--- PASS)/ { output = output $0 "\n" }

/^FAIL\t/ {
	failed = 1
	printf "%s", output
	output = ""
	fflush()
}

END {
	printf "%s", output
	if (skipped && short) {
		printf "left out: %d tests that need servers or tools; make test runs them\n", count
	} else if (skipped) {
		printf "tests were skipped:\n%s", skipped
	}
	exit failed || !passed || skipped != "" && !short
}
