package e2e

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// keep puts the histories of the rotation, once it has ended, into the corpus of tests/replay, if one is made.
func (w *env) keep(scenario string) { w.scenario = scenario }

// largest is how large a history of the corpus is at most, in bytes.
const largest = 200_000

// replayed checks that the histories of a rotation, and of those that it follows in the same workflow, replay, and
// writes them into the corpus if that is wanted.
func (w *env) replayed() {
	w.Helper()
	all, err := replaytest.CheckAll(context.Background(), w.Client, w.id())
	if err != nil {
		w.Error(err)
		return
	}
	if w.scenario == "" {
		return
	}
	for i, h := range all {
		name := w.scenario
		if i > 0 {
			name = fmt.Sprintf("%s-%d", w.scenario, i+1)
		}
		if proto.Size(h) > largest {
			continue
		}
		if err := replaytest.Keep(h, name); err != nil {
			w.Error(err)
		}
	}
}
