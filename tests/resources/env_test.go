// Package resources tests what becomes of rotations when the machine runs short of something: disk, descriptors, memory,
// time to stop in, a clock that is right; and when five thousand people start in one instant. The resources are real ones,
// and so is the worker: a process of its own.
package resources

import (
	"context"
	"os"
	"strings"
	"testing"

	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/workflows"
)

// The tests mostly wait: more of them at once than there are cores.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m, testenv.MainOptions{Parallel: 10})) }

// envAll is the switch that tries every step and every place, and waits as long as a rotation waits between two tries.
const envAll = "REKEY_RESOURCES"

func all() bool { return os.Getenv(envAll) == "all" }

// some are all of them, or the first n without the switch.
func some[T any](n int, of ...T) []T {
	if all() {
		return of
	}
	return of[:n]
}

// name is the key's.
const name = "ci"

// env has one Google key in a local store and in Secret Manager.
type env struct {
	*testenv.Env
	oldID string
	// others is how many keys there are besides.
	others int
}

// fast is a policy in which nothing takes longer than it must, and a step as long as a test wants to hold it.
var fast = []string{"grace: 1s", "soak: 0s", "quiet: 0s", "recheck: 1s", "step_timeout: 60s"}

func newEnv(t *testing.T, o testenv.Options, stores ...string) *env {
	t.Helper()
	w := &env{}
	s := &o.Scenario
	if s.Policy == nil {
		s.Policy = fast
	}
	if s.Dir == "" {
		s.Dir = t.TempDir()
	}
	if len(stores) == 0 {
		stores = []string{scenario.Local, scenario.Alias}
	}
	s.KeyBits = 1024
	if s.RequestTimeout == "" {
		s.RequestTimeout = "20s"
	}
	s.Propagation, s.RevocationLag = "20s", "20s"
	if o.Keys == nil {
		o.Keys = func(s *scenario.Scenario) (err error) {
			w.oldID, err = s.Google(name, stores...)
			return err
		}
	}
	w.Env = testenv.Start(t, o)
	return w
}

// replaced waits for the end of a rotation and checks that one new key is left, that it stands everywhere, and that the
// invariants held all the time.
func (w *env) replaced(run sdkclient.WorkflowRun) rotation.Result {
	w.Helper()
	res := w.Result(name, run.GetRunID())
	w.Invariants(scenario.Rules(name, scenario.Alias))
	if res.Phase != rotation.Completed {
		w.Errorf("the rotation ended as %s: %s", res.Phase, res.Outcome)
	}
	live, id := w.Cloud.LiveKeys(), w.Cloud.PublishedKeys()[scenario.Path(scenario.Alias, name)]
	if _, works := live[id]; !works || id == w.oldID || len(live) != 1+w.others {
		w.Errorf("applications read %s; keys: %v; old: %s", id, live, w.oldID)
	}
	for _, l := range w.Key(name).Stores {
		v := w.published(l)
		if v.Fingerprint() != res.New || w.Cloud.KeyID(v) != id {
			w.Errorf("applications read %s in %s, want %s", v.Fingerprint(), l, res.New)
		}
		s, err := w.Setup.Stores[l.Store].Load(context.Background(), l.Path)
		if err != nil {
			w.Fatal(err)
		}
		if s.Claim != nil || s.Pending != nil || s.Previous != nil || len(s.Duties) > 0 {
			w.Errorf("the record of %s is not tidy: %+v", l, s.Record)
		}
	}
	if _, err := w.Replayed(workflows.ID(name), run.GetRunID(), ""); err != nil {
		w.Error(err)
	}
	return res
}

// published is what applications read.
func (w *env) published(l rotation.Location) secret.Value {
	w.Helper()
	v, err := w.Setup.Stores[l.Store].Published(context.Background(), l.Path)
	if err != nil {
		w.Fatal(err)
	}
	return v
}

// says waits until the rotation, or the step that Temporal tries again, says all of these.
func (w *env) says(words ...string) {
	w.Helper()
	w.Await("the words "+strings.Join(words, "; "), func() bool {
		s, err := w.Status(name)
		if err != nil {
			return false
		}
		said := s.Details
		d, err := w.Client.DescribeWorkflowExecution(context.Background(), workflows.ID(name), "")
		if err != nil {
			return false
		}
		for _, a := range d.GetPendingActivities() {
			said += "\n" + a.GetLastFailure().GetMessage()
		}
		for _, word := range words {
			if !strings.Contains(said, word) {
				return false
			}
		}
		return true
	})
}
