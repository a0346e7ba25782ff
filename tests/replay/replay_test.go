// Package replay replays histories of released workflow code with the code of today: a rotation in its grace period
// must survive new worker code (I9).
//
// The corpus in testdata is made by the tests that call histories.Keep:
// REKEY_CORPUS=$PWD/tests/replay/testdata go test ./tests/e2e ./tests/fleet ./starter
// writes a history for each run of the scenarios that they name. Once there is a release, make it from released code, never
// from the branch under test, and add to it rather than replace: old histories stay in production for as long as a grace
// period lasts. Until then it is made anew whenever the engine decides otherwise.
package replay

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/workflows/replaytest"
)

func read(t *testing.T) map[string]*historypb.History {
	t.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("the corpus is empty, so nothing would be tested: %v", err)
	}
	all := map[string]*historypb.History{}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		h, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
		_ = f.Close()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[strings.TrimSuffix(filepath.Base(name), ".json")] = h
	}
	return all
}

func TestEveryHistoryOfTheCorpusReplays(t *testing.T) {
	for name, h := range read(t) {
		t.Run(name, func(t *testing.T) {
			if err := replaytest.Replay(h); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAHistoryOfOtherCodeIsRefused(t *testing.T) {
	for name, h := range read(t) {
		t.Run(name, func(t *testing.T) {
			changed := false
			for _, e := range h.GetEvents() {
				// As if the code had once asked for something else here.
				if a := e.GetActivityTaskScheduledEventAttributes(); a != nil {
					a.ActivityType.Name, changed = "SomethingElse", true
					break
				}
			}
			if !changed {
				t.Fatal("the history schedules no activity: it tests little")
			}
			if err := replaytest.Replay(h); err == nil {
				t.Error("the replay did not notice")
			}
		})
	}
}

func TestTheCorpusHoldsNothingOfTheMachineItWasMadeOn(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range read(t) {
		for _, e := range h.GetEvents() {
			if text := fmt.Sprint(e); strings.Contains(text, "@"+host+"@") {
				t.Errorf("%s names the host %s", name, host)
			}
		}
	}
}
