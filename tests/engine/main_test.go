// Package engine_test tests the engine from outside, with real adapters against a simulated cloud: what must come of the
// moments at which decisions, answers and failures meet.
package engine_test

import (
	"os"
	"testing"

	"go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/internal/testenv"
)

func TestMain(m *testing.M) {
	// Without a cache every workflow task replays the history, and none is kept for a worker that was stopped.
	worker.SetStickyWorkflowCacheSize(0)
	// The tests mostly wait; more of them at once than there are cores.
	os.Exit(testenv.Main(m, testenv.MainOptions{Parallel: 8}))
}
