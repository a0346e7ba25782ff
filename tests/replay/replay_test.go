// Package replay replays histories of released workflow code with the code of today: a rotation in its grace period
// must survive new worker code (I9).
//
// The corpus has a folder for each version of the engine's decisions; testdata/README.md says how and when it is made.
package replay

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rekeyhq/rekey/tests/replay/corpus"
)

const data = "testdata"

// replayed is a file of the corpus, and what its replay has shown.
type replayed struct {
	corpus.History
	version string
	trails  []corpus.Trail
	err     error
}

// everything reads and replays every version, once for all tests.
var everything = sync.OnceValues(func() (all []*replayed, err error) {
	versions, err := corpus.Versions(data)
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		files, problem := corpus.Read(filepath.Join(data, v))
		err = errors.Join(err, problem)
		for _, f := range files {
			all = append(all, &replayed{History: f, version: v})
		}
	}
	work := make(chan *replayed)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for r := range work {
				for i, run := range r.Runs {
					trail, err := corpus.Follow(run)
					if err != nil {
						r.err = fmt.Errorf("run %d: %w", i+1, err)
						break
					}
					r.trails = append(r.trails, trail)
				}
			}
		})
	}
	for _, r := range all {
		work <- r
	}
	close(work)
	workers.Wait()
	return all, err
})

// whole is every version; damaged files are the business of one test.
func whole(t *testing.T) []*replayed {
	t.Helper()
	all, err := everything()
	if len(all) == 0 {
		t.Fatalf("the corpus is empty, so nothing would be tested: %v", err)
	}
	return all
}

// newest is the newest version.
func newest(t *testing.T) (files []*replayed) {
	t.Helper()
	all := whole(t)
	for _, r := range all {
		if r.version == all[len(all)-1].version {
			files = append(files, r)
		}
	}
	return files
}

func TestTheCorpusIsWhole(t *testing.T) {
	all, err := everything()
	if err != nil {
		t.Error(err)
	}
	events, tasks := 0, 0
	for _, r := range all {
		events += r.Events
		tasks += r.Tasks
	}
	t.Logf("%d files, %d events, %d workflow tasks", len(all), events, tasks)
}

func TestEveryHistoryOfTheCorpusReplays(t *testing.T) {
	for _, r := range whole(t) {
		if r.err != nil {
			t.Errorf("%s/%s: %v\nWorkflow code decides differently than the code that wrote this. CONTRIBUTING.md says what to do: \"Changing workflow code\".", r.version, r.Name, r.err)
		}
	}
}

func TestAVersionThatAReleaseHoldsIsFrozen(t *testing.T) {
	if err := corpus.CheckFrozen(data); err != nil {
		t.Error(err)
	}
}

// turns are what the newest version shows.
func turns(t *testing.T) map[corpus.Turn]string {
	t.Helper()
	shown := map[corpus.Turn]string{}
	for _, r := range newest(t) {
		for _, trail := range r.trails {
			for _, turn := range trail.Turns() {
				shown[turn] = r.Name
			}
		}
	}
	return shown
}

func TestEveryTurnThatARotationCanTakeHasAHistory(t *testing.T) {
	shown := turns(t)
	possible := 0
	for _, turn := range corpus.Turns() {
		why := turn.NotPossible()
		if why == "" {
			possible++
		}
		switch file := shown[turn]; {
		case why == "" && file == "":
			t.Errorf("no history shows this turn: %s. Make one (make corpus), or say in corpus.Turn.NotPossible why there is none", turn)
		case why != "" && file != "":
			t.Errorf("%s shows a turn that is said to be impossible (%s): %s", file, why, turn)
		}
	}
	t.Logf("%d turns, %d of them possible", len(corpus.Turns()), possible)
}

// The reasons in NotPossible are about states; here the histories say whether the two that are about workflow tasks are true.
func TestWhatIsSaidToBeOverInOneTaskIsNeverLeftInAnother(t *testing.T) {
	found := map[string]bool{}
	for _, r := range newest(t) {
		for _, trail := range r.trails {
			for i, v := range trail.Visits {
				state := v.State.String()
				if state != "forward-only/contain" || !trail.Shape().ByHand || i+1 == len(trail.Visits) {
					continue
				}
				found[state] = true
				if !trail.Passing(i) {
					t.Errorf("%s stays in %s", r.Name, state)
				}
			}
		}
	}
	if len(found) == 0 {
		t.Error("no history passes through forward-only/contain by hand")
	}
}

func TestEachHistoryShowsTheTurnThatItWasMadeFor(t *testing.T) {
	for _, r := range newest(t) {
		if r.Turn == "" || strings.HasPrefix(r.Turn, string(corpus.GoOn)) {
			continue
		}
		var shown []string
		for _, trail := range r.trails {
			for _, turn := range trail.Turns() {
				shown = append(shown, turn.String())
			}
		}
		if !slices.Contains(shown, r.Turn) {
			t.Errorf("%s was made for %q and shows %q", r.Name, r.Turn, shown)
		}
	}
}

// A turn without a possible history is one that a rule gives a reason for: a rule that says too much would hide a hole.
func TestEveryPhaseHasPossibleTurnsOfEveryAction(t *testing.T) {
	for _, state := range corpus.States() {
		var possible []corpus.Action
		for _, turn := range corpus.Turns() {
			if turn.State == state && turn.NotPossible() == "" && !slices.Contains(possible, turn.Action) {
				possible = append(possible, turn.Action)
			}
		}
		want := []corpus.Action{corpus.GoOn}
		if !state.Step.Closed() {
			want = append(want, corpus.ContinueAsNew)
		}
		if state.String() != "looking/completed" {
			want = append(want, corpus.Emergency)
		}
		if !state.Step.Closed() && !state.Commitment.Backwards() {
			want = append(want, corpus.LeakedKey)
		}
		if !state.Step.Closed() && state.Commitment.CanRollBack() {
			want = append(want, corpus.RollBack)
		}
		if !slices.Equal(possible, want) {
			t.Errorf("%s: %v is said to be possible for some shape, want %v", state, possible, want)
		}
	}
}

func TestTheCorpusHoldsNothingOfTheMachineItWasMadeOn(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range whole(t) {
		f, err := os.Open(filepath.Join(data, r.version, r.Name))
		if err != nil {
			t.Fatal(err)
		}
		var text []byte
		unzipped, err := gzip.NewReader(f)
		if err == nil {
			text, err = io.ReadAll(unzipped)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("@"+host+"@")) || bytes.Contains(text, []byte(`"`+host+":")) {
			t.Errorf("%s names the host %s", r.Name, host)
		}
	}
}
