package resources

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	sdkclient "go.temporal.io/sdk/client"
	"golang.org/x/sys/unix"

	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
)

// limit sets a limit of the worker process that runs now, and returns what it was. The hard limit stays: raising that again
// would take a privilege.
func (w *env) limit(resource int, to uint64) (was uint64) {
	w.Helper()
	var now unix.Rlimit
	pid := w.WorkerPID()
	err := unix.Prlimit(pid, resource, nil, &now)
	if err == nil {
		err = unix.Prlimit(pid, resource, &unix.Rlimit{Cur: min(to, now.Max), Max: now.Max}, nil)
	}
	if err != nil {
		w.Fatal(err)
	}
	return now.Cur
}

func TestAWorkerWithoutFileDescriptorsHoldsARotationUpAndGoesOnWhenItHasSome(t *testing.T) {
	t.Parallel()
	for _, step := range some(1, "Promote", "Prepare", "Create", "Verify", "Revoke", "Confirm", "Retire") {
		t.Run("while it begins "+step, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, testenv.Options{SimOptions: testenv.SimOptions{Scenario: scenario.Options{RequestTimeout: "2s"}}})
			w.StartProcess(testenv.ProcessOptions{Pause: []string{step}})
			run := w.Rotate(name, rotation.Manual)
			w.AwaitPaused(step)
			before := w.Cloud.LiveKeys()
			// What is open stays open.
			was := w.limit(unix.RLIMIT_NOFILE, 1)
			w.Resume(step)
			w.says("too_many_files", "ulimit -n")
			for id := range before {
				if _, works := w.Cloud.LiveKeys()[id]; !works {
					t.Errorf("the key %s was taken away", id)
				}
			}
			w.limit(unix.RLIMIT_NOFILE, was)
			w.replaced(run)
		})
	}
}

// status reads a number of kilobytes from what the kernel says of the worker process.
func (w *env) status(field string) (kB uint64) {
	w.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(w.WorkerPID()), "status"))
	if err != nil {
		w.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			if kB, err = strconv.ParseUint(strings.Fields(rest)[0], 10, 64); err != nil {
				w.Fatal(err)
			}
		}
	}
	return kB
}

// keys is how many keys are rotated at once under the limits of memory.
const keys = 20

// manyKeys has as many Google keys in Secret Manager, and starts to rotate all of them once the worker runs.
func manyKeys(t *testing.T) (w *env, old map[string]string) {
	t.Helper()
	old = map[string]string{}
	w = newEnv(t, testenv.Options{SimOptions: testenv.SimOptions{
		Scenario: scenario.Options{RequestTimeout: "2s", Policy: append([]string{"step_timeout: 3s"}, fast[:4]...)},
		Keys: func(s *scenario.Scenario) (err error) {
			for i := 0; i < keys && err == nil; i++ {
				n := fmt.Sprintf("ci-%02d", i)
				old[n], err = s.Google(n, scenario.Local, scenario.Alias)
			}
			return err
		},
	}})
	return w, old
}

func (w *env) rotateAll() (runs map[string]sdkclient.WorkflowRun) {
	w.Helper()
	runs = map[string]sdkclient.WorkflowRun{}
	for _, k := range w.Config.Keys {
		runs[k.Name] = w.Rotate(k.Name, rotation.Manual)
	}
	return runs
}

// allReplaced waits for the end of all rotations, and checks that one new key of each is left.
func (w *env) allReplaced(runs map[string]sdkclient.WorkflowRun, old map[string]string) {
	w.Helper()
	for n, run := range runs {
		if res := w.Result(n, run.GetRunID()); res.Phase != rotation.Completed {
			w.Errorf("the rotation of %s ended as %s: %s", n, res.Phase, res.Outcome)
		}
		for _, broken := range w.Cloud.Check(scenario.Rules(n, scenario.Alias)) {
			w.Error(broken)
		}
	}
	live, published := w.Cloud.LiveKeys(), w.Cloud.PublishedKeys()
	for _, k := range w.Config.Keys {
		id := published[scenario.Path(scenario.Alias, k.Name)]
		local, err := w.Setup.Stores[scenario.Local].Published(context.Background(), k.Name)
		if _, works := live[id]; err != nil || !works || id == old[k.Name] || w.Cloud.KeyID(local) != id {
			w.Errorf("applications read %s of %s, and in the local store %s (%v)", id, k.Name, w.Cloud.KeyID(local), err)
		}
	}
	if orphans := w.Cloud.Orphans(); len(live) != len(runs) || len(orphans) > 0 {
		w.Errorf("%d keys are live after %d rotations; orphans: %v", len(live), len(runs), orphans)
	}
}

func TestAWorkerThatGetsNoMoreMemoryDiesAndTheNextOneLosesNothing(t *testing.T) {
	t.Parallel()
	w, old := manyKeys(t)
	w.StartProcess(testenv.ProcessOptions{MayDie: true})
	runs := w.rotateAll()
	w.Await("the first keys are made", func() bool { return len(w.Cloud.LiveKeys()) > keys+2 })
	pid := w.WorkerPID()
	w.limit(unix.RLIMIT_AS, w.status("VmSize")<<10)
	w.Await("the worker dies of it, and another one is started", func() bool { return w.WorkerPID() != pid })
	if !strings.Contains(w.Logs(), "out of memory") && !strings.Contains(w.Logs(), "cannot allocate memory") {
		t.Error("the worker did not die for want of memory: the test proves nothing")
	}
	w.allReplaced(runs, old)
}

func TestAWorkerThatIsToUseLittleMemoryRotatesAllTheSame(t *testing.T) {
	t.Parallel()
	if !all() {
		t.Skip("its collector takes all the time that it gets: " + envAll + "=all tries it")
	}
	w, old := manyKeys(t)
	w.StartProcess(testenv.ProcessOptions{Environ: []string{"GOMEMLIMIT=1MiB"}})
	w.allReplaced(w.rotateAll(), old)
	t.Logf("%d keys at once: the worker took at most %d MB", keys, w.status("VmHWM")>>10)
}
