package resources

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
)

// place is a folder of the local store.
type place struct {
	// is its name, folder where it is beneath the scenario's, file what the store writes there.
	is, folder, file string
}

var (
	values = place{is: "the values", folder: "secrets", file: name + ".age"}
	ledger = place{is: "the ledger", folder: "identity", file: name + ".json"}
)

func TestADiskThatIsFullUnderTheLocalStoreHoldsARotationUpAndNothingElse(t *testing.T) {
	t.Parallel()
	type moment struct {
		place
		step string
	}
	for _, m := range some(2, moment{values, "Promote"}, moment{ledger, "Revoke"},
		moment{values, "Prepare"}, moment{values, "Create"}, moment{values, "Revoke"}, moment{values, "Retire"},
		moment{ledger, "Prepare"}, moment{ledger, "Create"}, moment{ledger, "Promote"}, moment{ledger, "Retire"},
	) {
		t.Run(m.is+" while it begins "+m.step, func(t *testing.T) {
			t.Parallel()
			heldUp(t, m.place, m.step, (*small).fill, (*small).free, "no_space", "Free some", "goes on by itself")
		})
	}
}

func TestAFolderOfTheLocalStoreThatIsReadOnlyHoldsARotationUpAndNothingElse(t *testing.T) {
	t.Parallel()
	if !all() {
		t.Skip("what is denied is asked for again after 15 seconds: " + envAll + "=all waits for that")
	}
	for _, step := range []string{"Prepare", "Create", "Promote", "Revoke", "Retire"} {
		t.Run("while it begins "+step, func(t *testing.T) {
			t.Parallel()
			heldUp(t, values, step, func(d *small) { d.readOnly(true) }, func(d *small) { d.readOnly(false) },
				"file_permission", "must be able to read and write", "goes on by itself")
		})
	}
}

// heldUp lets a rotation run into a disk that is broken when it begins a step, looks that it says so and has done nothing,
// and mends the disk.
func heldUp(t *testing.T, p place, step string, breaks, mends func(*small), words ...string) {
	t.Helper()
	dir := t.TempDir()
	disk := mount(t, filepath.Join(dir, p.folder), "256k")
	w := newEnv(t, testenv.Options{SimOptions: testenv.SimOptions{Scenario: scenario.Options{Dir: dir, RequestTimeout: "2s"}}})
	w.StartProcess(testenv.ProcessOptions{Pause: []string{step}})
	run := w.Rotate(name, rotation.Manual)
	w.AwaitPaused(step)
	before := w.Cloud.LiveKeys()
	breaks(disk)
	w.Resume(step)
	w.says(append(words, p.file)...)
	if s, err := w.Status(name); err != nil || s.Phase.Closed() {
		t.Errorf("the rotation is said to have ended: %+v, %v", s, err)
	}
	for id := range before {
		if _, works := w.Cloud.LiveKeys()[id]; !works {
			t.Errorf("the key %s was taken away, and that could not be written down", id)
		}
	}
	for _, l := range w.Key(name).Stores {
		if _, works := w.Cloud.LiveKeys()[w.Cloud.KeyID(w.published(l))]; !works {
			t.Errorf("what applications read in %s does not work", l)
		}
	}
	mends(disk)
	w.replaced(run)
}

func TestADiskThatIsFullUnderTheEmbeddedServersDatabaseHoldsARotationUpAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, step := range some(1, "Create", "Promote", "Revoke") {
		t.Run("while it begins "+step, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			disk := mount(t, filepath.Join(dir, "temporal"), "32m")
			database, troubles := filepath.Join(disk.dir, "rekey.db"), make(chan string, 1)
			tell := func(text string) {
				select {
				case troubles <- text:
				default: // one is enough
				}
			}
			w := newEnv(t, testenv.Options{
				SimOptions:      testenv.SimOptions{Scenario: scenario.Options{RequestTimeout: "2s", Policy: append([]string{"step_timeout: 3s"}, fast[:4]...)}},
				TemporalOptions: testenv.TemporalOptions{Own: &devserver.Options{DatabaseFile: database, Trouble: tell}},
			})
			w.StartProcess(testenv.ProcessOptions{Pause: []string{step}})
			run := w.Rotate(name, rotation.Manual)
			w.AwaitPaused(step)
			disk.fill()
			w.Resume(step)
			// What the step did cannot be written down: the server refuses the answer again and again.
			select {
			case text := <-troubles:
				if !strings.Contains(text, database) || !strings.Contains(text, "Free some space") {
					t.Errorf("it says: %s", text)
				}
			case <-time.After(time.Minute):
				t.Error("nobody is told that Temporal cannot write its database")
			}
			disk.free()
			w.replaced(run)
		})
	}
}
