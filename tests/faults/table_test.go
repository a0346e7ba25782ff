package faults

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/tests/virtual"
)

// envTable is how often each row of the fault table is repeated; empty tries each once, and writes nothing.
const envTable = "REKEY_FAULT_TABLE"

const (
	tablePage  = "../../docs/faults.md"
	tableBegin = "<!-- faults: written by REKEY_FAULT_TABLE=20 go test ./tests/faults -run FaultTable -->\n"
	tableEnd   = "<!-- end of faults -->\n"
)

// row is a fault that small rotators were tried with.
type row struct {
	name, fault string
	// killed: the worker is a process of its own.
	killed bool
	// does it, beside the rotation, and returns what undoes it.
	does func(*virtual.World) (undo func())
}

// killAt kills the worker when it has sent a request, which takes effect.
func killAt(service, method string) func(*virtual.World) func() {
	return func(w *virtual.World) func() {
		f := simcloud.Fault{Service: service, Method: method, Times: 1, Kind: simcloud.CommitLate, Reached: make(chan struct{}), Release: make(chan struct{})}
		undo := w.Cloud.Inject(f)
		go func() {
			<-f.Reached
			w.KillWorker()
			close(f.Release)
		}()
		return undo
	}
}

func failing(f simcloud.Fault) func(*virtual.World) func() {
	return func(w *virtual.World) func() { return w.Cloud.Inject(f) }
}

// both injects two faults.
func both(one, other simcloud.Fault) func(*virtual.World) func() {
	return func(w *virtual.World) func() {
		first, second := w.Cloud.Inject(one), w.Cloud.Inject(other)
		return func() { first(); second() }
	}
}

var rows = []row{
	{"F0", "healthy", false, func(*virtual.World) func() { return func() {} }},
	{"F1", "killed between mint and store, then healthy runs", true, killAt(simcloud.GoogleIAMService, "UploadServiceAccountKey")},
	{"F2", "store down for 12 tries, then healed", false, failing(simcloud.Fault{Service: simcloud.SecretManagerService, Method: "AddSecretVersion", Times: 12, Kind: simcloud.Refuse, Code: 503})},
	{"F3", "second of two stores fails once", false, failing(simcloud.Fault{Service: simcloud.AWSSecretsService, Method: "UpdateSecretVersionStage", Times: 1, Kind: simcloud.Refuse, Code: 500})},
	{"F4", "the same event twice", false, func(w *virtual.World) func() {
		w.Before = func(string) { // again and again, while it runs
			_, _ = client.New(w.Temporal).StartManual(context.Background(), w.Key, "the event", "once more")
		}
		return func() { w.Before = nil }
	}},
	{"F5", "revoke answers 500 once", false, both(
		simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "DisableServiceAccountKey", Times: 1, Kind: simcloud.Refuse, Code: 500},
		simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "DeleteServiceAccountKey", Times: 1, Kind: simcloud.Refuse, Code: 500},
	)},
	{"F6", "killed between store and revoke", true, func(w *virtual.World) func() {
		var once sync.Once
		w.After = func(activity string) {
			if activity == activities.PromoteName {
				once.Do(func() { w.KillWorker() })
			}
		}
		return func() { w.After = nil }
	}},
}

// measured is what a row did, over all repeats.
type measured struct {
	repeats, completed                 int
	orphans, lost, disagreeing, minted int
	overlap                            time.Duration
	broken                             []string
}

func (m measured) String() string {
	text := fmt.Sprintf("%d orphans, %d keys lost, %d stuck; both keys work for %.0f h", m.orphans, m.lost, m.repeats-m.completed, m.overlap.Hours())
	if m.disagreeing > 0 {
		text += fmt.Sprintf("; %d times stores disagree", m.disagreeing)
	}
	if vain := (m.minted - m.repeats) / m.repeats; vain > 0 {
		text += fmt.Sprintf("; %d keys minted in vain, and deleted again", vain)
	}
	return text
}

// wrong reports whether the row shows what must not be. oneEach: no key may be minted in vain.
func (m measured) wrong(oneEach bool) bool {
	return m.orphans+m.lost+m.disagreeing+len(m.broken) > 0 || m.completed < m.repeats || m.overlap < 48*time.Hour || oneEach && m.minted > m.repeats
}

// TestFaultTable tries what small rotators were tried with.
func TestFaultTable(t *testing.T) {
	t.Parallel()
	repeats := 1
	if text := os.Getenv(envTable); text != "" {
		var err error
		if repeats, err = strconv.Atoi(text); err != nil || repeats < 1 {
			t.Fatalf("%s=%q: expected how often each fault is repeated", envTable, text)
		}
	}
	servers := newServers(t)
	results := make([]measured, len(rows))
	t.Run("rows", func(t *testing.T) {
		for i, r := range rows {
			t.Run(r.name+" "+r.fault, func(t *testing.T) {
				t.Parallel()
				for range repeats {
					results[i].add(t, r, servers)
				}
				if results[i].wrong(r.name == "F4") {
					t.Errorf("%s %v", results[i], results[i].broken)
				}
			})
		}
	})
	for i, r := range rows {
		t.Logf("%s %s: %s", r.name, r.fault, results[i])
	}
	if os.Getenv(envTable) != "" && !t.Failed() {
		writeTable(t, results)
	}
}

// add rotates once with the fault.
func (m *measured) add(t *testing.T, r row, servers *servers) {
	t.Helper()
	server, release, err := servers.get(t.Context(), "memory", "")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	processes := 0
	if r.killed {
		processes = 1
	}
	w, err := virtual.NewWorld(t.Context(), server.get(), virtual.Options{
		Shape: virtual.Shape{Name: r.name, Stores: []string{scenario.Alias, scenario.AWS}, Policy: []string{"step_timeout: 3s"}},
		Dir:   t.TempDir(), Mode: "upload", RequestTimeout: "1s", Processes: processes,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	undo := r.does(w)
	defer undo()
	res, err := w.Rotate(t.Context(), time.Duration(w.Key.Policy.Period), rotation.Manual)
	m.repeats++
	if err == nil && res.Phase == rotation.Completed {
		m.completed++
	}
	m.broken = append(m.broken, w.Check()...)
	m.orphans += len(w.Cloud.Orphans())
	published := map[string]bool{}
	for _, id := range w.Cloud.PublishedKeys() {
		published[id] = true
		if _, lives := w.Cloud.LiveKeys()[id]; !lives {
			m.lost++
		}
	}
	if len(published) > 1 {
		m.disagreeing++
	}
	m.journal(w.Cloud.Journal())
}

// journal counts the keys that were minted, and measures for how long both keys worked: from the last store's publication to
// the revoke. The shortest counts.
func (m *measured) journal(events []simcloud.Event) {
	var last time.Time
	for _, e := range events {
		switch {
		case e.Kind == simcloud.KeyCreated && e.Stamp != "":
			m.minted++
		case e.Kind == simcloud.Published:
			last = e.At
		case e.Kind == simcloud.KeyDisabled:
			if d := e.At.Sub(last); m.overlap == 0 || d < m.overlap {
				m.overlap = d
			}
		}
	}
}

// others are how small rotators did, on a loopback cloud of the same kind; none of them promises more than it does.
var others = map[string][3]string{
	"F0": {"about 2 ms", "until the cleaner's age", "until expiry"},
	"F1": {"1 orphan for good", "1 orphan for good", "key lost, and reported as well"},
	"F2": {"9 orphans, stuck at the limit of 10", "9 orphans, stuck at the limit of 10", "not tried"},
	"F3": {"stores disagree, then 1 orphan", "not tried", "not tried"},
	"F4": {"not tried", "2 keys", "not tried"},
	"F5": {"not tried", "secret version destroyed, key stays live", "not tried"},
	"F6": {"1 orphan for good", "not tried", "not tried"},
}

func writeTable(t *testing.T, results []measured) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s, each %d times.\n\n| fault | rekey | cloud-key-rotator | kyma rotate and cleaner | sa-key-rotator |\n|---|---|---|---|---|\n",
		time.Now().UTC().Format("2 January 2006"), results[0].repeats)
	for i, r := range rows {
		o := others[r.name]
		fmt.Fprintf(&b, "| %s %s | %s | %s |\n", r.name, r.fault, results[i], strings.Join(o[:], " | "))
	}
	page, err := os.ReadFile(tablePage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		t.Fatalf("%s has no place for the table", tablePage)
	}
	if err := os.WriteFile(tablePage, []byte(before+tableBegin+"\n"+b.String()+"\n"+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
