package auditor

import (
	"encoding/json"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// Kind says what an operation does.
type Kind string

// The operations on a store.
const (
	Load      Kind = "load"
	Save      Kind = "save"
	Add       Kind = "add"
	Read      Kind = "read"
	Promote   Kind = "promote"
	Published Kind = "published"
	Destroy   Kind = "destroy"
)

// The operations at a provider. Identify is what an adapter reads in a value without asking anybody, Use is an application's
// request.
const (
	Identify Kind = "identify"
	Probe    Kind = "probe"
	List     Kind = "list"
	Mint     Kind = "mint"
	Disable  Kind = "disable"
	Enable   Kind = "enable"
	Delete   Kind = "delete"
	Use      Kind = "use"
)

// Outcome is how an operation ended, as far as its caller can know.
type Outcome string

// The outcomes. Refused and Conflict have changed nothing. Unknown may have taken effect, and may yet.
const (
	OK       Outcome = "ok"
	Refused  Outcome = "refused"
	Conflict Outcome = "conflict"
	Unknown  Outcome = "unknown"
)

// open is the end of an operation of which nobody knows when it has ended.
const open = math.MaxInt64

// The callers of operations that are neither rekey nor an application.
const (
	rekey  = "rekey"
	theEnd = "the auditor, at the end"
)

// Op is one operation as its caller saw it. Values are named by fingerprint.
type Op struct {
	Kind Kind
	// By is rekey, an application, or the auditor itself.
	By string
	// Call and Return are the moments of one counter: they say which operation was over before another one began. Began and
	// Ended are the same in the world's time.
	Call, Return int64
	Began, Ended time.Time
	Outcome      Outcome

	// Where is the place in a store.
	Where rotation.Location
	// Number is the version that was asked for, Answered the number of the version that was made.
	Number, Answered string
	Fingerprint      string
	// Revision is what a change compares, After the record that is there then, at AfterRevision. A Load has these only.
	Revision, AfterRevision string
	Before, After           *store.Record

	KeyID, Stamp string
	Keys         []provider.Key
	// Accepted is the answer to Probe and Use.
	Accepted bool
	// NotFound is set with Refused.
	NotFound bool
	// Cached: the application uses a copy that it had read Held before.
	Cached bool
	Held   time.Duration
	// Problem is the text of the failure of an application's request.
	Problem string
}

// history is what all clients of one world have done. It is safe for concurrent use.
type history struct {
	now func() time.Time

	mu    sync.Mutex
	tick  int64
	ops   []*Op
	known map[string]bool
	// values are those that a provider accepts or has accepted; nothing else in the history holds any.
	values map[string]secret.Value
	// texts is what was written beside the values, or came back as a failure.
	texts map[string]bool
}

func newHistory(now func() time.Time) *history {
	h := &history{now: now, values: map[string]secret.Value{}}
	h.forget()
	return h
}

// forget begins a new history. The values stay: those of earlier rotations must not be accepted either.
func (h *history) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops, h.known, h.texts = nil, map[string]bool{}, map[string]bool{}
}

// begin notes that an operation begins. Until its end is noted it is Unknown.
func (h *history) begin(op Op) *Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tick++
	op.Call, op.Return, op.Began, op.Outcome = h.tick, open, h.now(), Unknown
	op.Before = h.copied(op.Before)
	h.text(op.Stamp)
	h.ops = append(h.ops, &op)
	return &op
}

// end notes how an operation ended. answer fills in what came back, if it was OK.
func (h *history) end(op *Op, err error, answer func(*Op)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tick++
	op.Ended, op.Outcome = h.now(), outcome(op.Kind, err)
	if op.Outcome != Unknown {
		op.Return = h.tick
	}
	if err != nil {
		op.NotFound = fault.Is(err, fault.NotFound)
		h.text(err.Error())
		return
	}
	answer(op)
	op.After = h.copied(op.After)
}

// outcome is what a caller can conclude from err.
func outcome(k Kind, err error) Outcome {
	var f *fault.Error
	switch {
	case err == nil:
		return OK
	case store.IsConflict(err):
		return Conflict
	case k != Load && k != Read && k != Published && k != Probe && k != List && (!errors.As(err, &f) || f.Unsettled):
		return Unknown
	}
	return Refused
}

// copied keeps a record as it is now, and its text for the search for key material. The caller holds mu.
func (h *history) copied(r *store.Record) *store.Record {
	if r == nil {
		return nil
	}
	text, err := json.Marshal(r)
	if err != nil {
		panic("auditor: a record that cannot be written: " + err.Error())
	}
	h.text(string(text))
	var c store.Record
	if err := json.Unmarshal(text, &c); err != nil {
		panic("auditor: a record that cannot be read: " + err.Error())
	}
	return &c
}

func (h *history) text(t string) {
	if t != "" {
		h.texts[t] = true
	}
}

// identified notes once which key a value is.
func (h *history) identified(v secret.Value, keyID string) {
	f := v.Fingerprint()
	h.mu.Lock()
	known := h.known[f]
	h.known[f] = true
	h.mu.Unlock()
	if !known && keyID != "" {
		h.end(h.begin(Op{Kind: Identify, By: rekey, Fingerprint: f, KeyID: keyID}), nil, func(*Op) {})
	}
}

// keep remembers a value of the key, so that it can be used as an application would.
func (h *history) keep(v secret.Value) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.values[v.Fingerprint()] = v
}

// kept returns the values.
func (h *history) kept() (all []secret.Value) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range h.values {
		all = append(all, v)
	}
	return all
}

// dropRefused forgets the values that were refused in the end: a key that is gone does not come back.
func (h *history) dropRefused() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.ops {
		if op.Kind == Use && op.By == theEnd && op.Outcome == OK && !op.Accepted {
			delete(h.values, op.Fingerprint)
		}
	}
}

// all returns a copy of the history so far.
func (h *history) all() []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Op, len(h.ops))
	for i, op := range h.ops {
		out[i] = *op
	}
	return out
}

// written returns every text once.
func (h *history) written() (all []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for t := range h.texts {
		all = append(all, t)
	}
	return all
}
