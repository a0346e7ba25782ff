// Package replay replays histories of released workflow code with the code of today: a rotation in its grace period
// must survive new worker code (I9).
//
// The corpus has a folder for each version of the engine's decisions; testdata/README.md says how and when it is made.
package replay

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// newest are the histories of the newest version, by scenario.
func newest(t *testing.T) map[string]*historypb.History {
	t.Helper()
	versions, err := filepath.Glob("testdata/v*")
	if err != nil || len(versions) == 0 {
		t.Fatalf("there is no corpus: %v", err)
	}
	number := func(folder string) int {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(folder), "v"))
		if err != nil {
			t.Fatalf("%s is no version of the corpus", folder)
		}
		return n
	}
	last := slices.MaxFunc(versions, func(a, b string) int { return number(a) - number(b) })
	return read(t, filepath.Base(last))
}

// read reads the histories of a version, or of all with "*".
func read(t *testing.T, version string) map[string]*historypb.History {
	t.Helper()
	files, err := filepath.Glob("testdata/" + version + "/*.json")
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
		all[strings.TrimSuffix(strings.TrimPrefix(name, "testdata/"), ".json")] = h
	}
	return all
}

func TestEveryHistoryOfTheCorpusReplays(t *testing.T) {
	for name, h := range read(t, "*") {
		t.Run(name, func(t *testing.T) {
			if err := replaytest.Replay(h); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAHistoryOfOtherCodeIsRefused(t *testing.T) {
	for name, h := range read(t, "*") {
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
	for name, h := range read(t, "*") {
		for _, e := range h.GetEvents() {
			if text := fmt.Sprint(e); strings.Contains(text, "@"+host+"@") {
				t.Errorf("%s names the host %s", name, host)
			}
		}
	}
}
