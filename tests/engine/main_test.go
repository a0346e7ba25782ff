// Package engine_test tests the engine from outside, with real adapters against a simulated cloud: what must come of the
// moments at which decisions, answers and failures meet.
package engine_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/internal/devserver"
)

// server is the Temporal server of all tests that need a real one, each in a namespace of its own.
var server *devserver.Server

func TestMain(m *testing.M) {
	// The tests mostly wait; more of them at once than there are cores.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(withServer(m))
}

func withServer(m *testing.M) int {
	// Without a cache every workflow task replays the history, and none is kept for a worker that was stopped.
	worker.SetStickyWorkflowCacheSize(0)
	var err error
	if server, err = devserver.Start(context.Background(), devserver.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = server.Stop() }()
	return m.Run()
}
