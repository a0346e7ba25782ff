package faults

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/rekeyhq/rekey/tests/virtual"
)

func TestMain(m *testing.M) {
	// Most of a test is waiting: for a worker that was killed, for a request that hangs.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(virtual.Main(m))
}

// newServers are Temporals that end with the test.
func newServers(t *testing.T) *servers {
	t.Helper()
	s := &servers{}
	t.Cleanup(s.stop)
	return s
}
