package auditor

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
)

// Case is one rotation and what its clients saw.
type Case struct {
	Key      rotation.Key
	Install  string
	Provider provider.Capabilities
	// ReadLags say how late readers of a store are.
	ReadLags map[string]time.Duration
	Reason   rotation.Reason
	// Result is how the rotation says that it ended; without a Phase it has not, and nobody knows what should be left.
	Result  rotation.Result
	History []Op
}

const (
	// answers is how many in a row prove a value: the provider's front ends learn of a new key one after another.
	answers = 3
	// tolerance is how far the clocks of the world and of its workflows may differ.
	tolerance = 10 * time.Second
	// most is how many findings of one case are told.
	most = 12
)

// Judge returns what a history breaks. Each finding begins with the name of the invariant.
func Judge(c Case) []string {
	j := &judge{
		Case: c, current: map[rotation.Location]string{}, changed: map[rotation.Location]int64{}, records: map[rotation.Location]*store.Record{},
		was: map[string]bool{}, left: map[string]time.Time{}, idOf: map[string]string{}, valueOf: map[string]string{}, stamps: map[string]string{},
		readBack: map[string]map[rotation.Location]bool{}, proofs: map[string]int{}, disabled: map[string]time.Time{},
	}
	for _, m := range moments(c.History) {
		if m.ends {
			j.ended(m.Op)
		} else {
			j.begun(m.Op)
		}
	}
	if c.Result.Phase != "" {
		j.end()
	}
	j.found = append(j.found, linearizable(c.History, c.ReadLags, decideWithin)...)
	if n := len(j.found); n > most {
		j.found = append(j.found[:most], fmt.Sprintf("and %d more", n-most))
	}
	return j.found
}

// moment is the beginning or the end of an operation.
type moment struct {
	Op
	ends bool
	at   int64
}

func moments(history []Op) (all []moment) {
	for _, op := range history {
		all = append(all, moment{op, false, op.Call})
		if op.Return != open {
			all = append(all, moment{op, true, op.Return})
		}
	}
	slices.SortStableFunc(all, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	return all
}

// judge is what is known at one moment of a history.
type judge struct {
	Case
	found []string

	// first is what applications read at the beginning.
	first string
	// current is what they read in each store, changed the moment of the last change.
	current map[rotation.Location]string
	changed map[rotation.Location]int64
	// was are the values that were ever current, left says when a value was the last time.
	was  map[string]bool
	left map[string]time.Time
	// records are the records as last read or written.
	records map[rotation.Location]*store.Record
	// idOf and valueOf say which key is which value, stamps which stamp a key carries.
	idOf, valueOf, stamps map[string]string
	// readBack and proofs say how far a value is verified since another one was published.
	readBack map[string]map[rotation.Location]bool
	proofs   map[string]int
	disabled map[string]time.Time
	// unanswered are requests that make or take away a key, of which nobody knows what became.
	unanswered []Op
	claims     []string
	promoting  string
	endKeys    []provider.Key
	listed     bool
	accepted   map[string]bool
}

func (j *judge) say(op Op, format string, args ...any) {
	// Applications use a key that is refused again and again.
	if text := fmt.Sprintf(format, args...) + " [" + op.describe() + "]"; !slices.Contains(j.found, text) {
		j.found = append(j.found, text)
	}
}

// begun looks at what somebody is about to do.
func (j *judge) begun(op Op) {
	if op.By != rekey {
		return
	}
	switch op.Kind {
	case Save:
		j.claimed(op)
	case Promote:
		j.publishing(op)
	case Mint:
		j.minting(op)
	case Disable, Delete:
		j.takingAway(op)
	default:
		return
	}
	if op.Outcome == Unknown {
		j.unanswered = append(j.unanswered, op)
	}
}

// ended takes in what came back.
func (j *judge) ended(op Op) {
	if op.Kind == Probe && op.Outcome == OK {
		j.proved(op)
	}
	if op.Kind == Use {
		j.used(op)
	}
	if op.Outcome != OK {
		return
	}
	switch op.Kind {
	case Identify:
		j.identified(op.Fingerprint, op.KeyID)
	case Load, Save, Promote:
		j.records[op.Where] = op.After
		j.learn(op.After)
		if op.Kind != Save && op.After.Current != nil {
			j.reads(op, op.After.Current.Fingerprint)
		}
	case Read:
		if j.readBack[op.Fingerprint] == nil {
			j.readBack[op.Fingerprint] = map[rotation.Location]bool{}
		}
		j.readBack[op.Fingerprint][op.Where] = true
	case Published:
		j.reads(op, op.Fingerprint)
	case List:
		j.lists(op)
	case Mint:
		j.identified(op.Fingerprint, op.KeyID)
		j.stamps[op.KeyID] = op.Stamp
	case Disable:
		if _, ok := j.disabled[op.KeyID]; !ok {
			j.disabled[op.KeyID] = op.Ended
		}
	case Enable:
		delete(j.disabled, op.KeyID)
	}
}

func (j *judge) identified(fingerprint, keyID string) {
	if fingerprint != "" && keyID != "" {
		j.idOf[fingerprint], j.valueOf[keyID] = keyID, fingerprint
	}
}

func (j *judge) learn(r *store.Record) {
	for _, v := range r.Stages() {
		if v.Fingerprint != "" && v.KeyID != "" && j.idOf[v.Fingerprint] == "" {
			j.identified(v.Fingerprint, v.KeyID)
		}
	}
}

// reads notes what applications read in a store. What began before the last change says nothing.
func (j *judge) reads(op Op, fingerprint string) {
	before := j.current[op.Where]
	if fingerprint == "" || op.Call < j.changed[op.Where] {
		return
	}
	if j.first == "" {
		j.first = fingerprint
	}
	j.was[fingerprint] = true
	if before == fingerprint {
		return
	}
	if before != "" {
		j.left[before] = op.Ended
	}
	j.current[op.Where], j.changed[op.Where] = fingerprint, op.Return
}

// published are the values that applications read, each once.
func (j *judge) published() (all []string) {
	for _, l := range j.Key.Stores {
		if f := j.current[l]; f != "" && !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// proved counts the answers in a row, once the value was read back from every store.
func (j *judge) proved(op Op) {
	switch {
	case !op.Accepted:
		j.proofs[op.Fingerprint] = 0
	case len(j.readBack[op.Fingerprint]) >= len(j.Key.Stores):
		j.proofs[op.Fingerprint]++
	}
}

// publishing: a value is verified in every store before it is published, what it replaces is written down as a key to
// revoke, and nothing that was asked before can still take it away.
func (j *judge) publishing(op Op) {
	f := op.Fingerprint
	if j.current[op.Where] == f {
		return
	}
	for _, l := range j.Key.Stores {
		if !j.readBack[f][l] {
			j.say(op, "I2: published before it was read back from %s", l.Store)
		}
	}
	if n := j.proofs[f]; n < answers {
		j.say(op, "I2: published after the provider had accepted it %d times in a row since it was read back, want %d", n, answers)
	}
	if old := j.current[op.Where]; old != "" {
		for _, l := range j.Key.Stores {
			r := j.records[l]
			if l == op.Where {
				r = op.Before
			}
			if r != nil && !hasDuty(r, old, j.idOf[old]) {
				j.say(op, "I3: published before %s is written down in %s as a key to revoke", old, l.Store)
			}
		}
	}
	for _, u := range j.unanswered {
		if (u.Kind == Disable || u.Kind == Delete) && u.KeyID == j.idOf[f] && op.Began.Before(j.settled(u)) {
			j.say(op, "I1: published although a request to %s it may still take effect", u.Kind)
		}
	}
	if j.promoting != f {
		// Whatever is published after this is verified anew.
		for g := range j.was {
			if g != f {
				delete(j.readBack, g)
				delete(j.proofs, g)
			}
		}
		j.promoting = f
	}
}

// settled is when a request without an answer cannot take effect any more. The horizon counts from when it was written
// down, a moment before it was sent.
func (j *judge) settled(op Op) time.Time {
	return op.Began.Add(j.Provider.RequestTimeout + j.Provider.ListLag)
}

// claimed: one rotation at a time has the claim.
func (j *judge) claimed(op Op) {
	c := op.Before.Claim
	if c == nil || op.Where != j.Key.Stores[0] || len(j.claims) > 0 && j.claims[len(j.claims)-1] == c.Rotation {
		return
	}
	if slices.Contains(j.claims, c.Rotation) {
		j.say(op, "I6: rotation %s takes the claim again after another one had it", c.Rotation)
	}
	j.claims = append(j.claims, c.Rotation)
}

// minting: who mints holds the claim, under a stamp of its own, and no earlier mint can still take effect.
func (j *judge) minting(op Op) {
	s, ok := rotation.ParseStamp(op.Stamp)
	if !ok || s.Install != j.Install || s.Key != j.Key.Name {
		j.say(op, "I4: minted under a stamp that is not this key's")
	}
	if r := j.records[j.Key.Stores[0]]; r == nil || r.Claim == nil || r.Claim.Rotation != s.Rotation || r.Claim.Attempt != s.Attempt {
		j.say(op, "I3: minted without the claim")
	}
	for _, stamp := range j.stamps {
		if stamp == op.Stamp {
			j.say(op, "I3: a stamp is used twice")
		}
	}
	for _, u := range j.unanswered {
		if u.Kind == Mint && op.Began.Before(j.settled(u)) {
			j.say(op, "I3: minted again although an earlier mint may still take effect")
		}
	}
}

// takingAway: nothing that applications read, nothing before its time, nothing that is not rekey's to take away.
func (j *judge) takingAway(op Op) {
	f, now := j.valueOf[op.KeyID], j.published()
	if len(now) > 1 {
		j.say(op, "I8: taken away while the stores disagree: %v", now)
	}
	for _, l := range j.Key.Stores {
		if c := j.current[l]; c != "" && (c == f || j.idOf[c] == op.KeyID) {
			j.say(op, "I1: taken away while applications read it in %s", l.Store)
		}
	}
	duty, pending, written := false, false, false
	for _, r := range j.records {
		duty = duty || hasDuty(r, f, op.KeyID)
		pending = pending || r.Pending != nil && r.Pending.KeyID == op.KeyID
		for _, q := range r.Revokes {
			written = written || q.KeyID == op.KeyID
			j.names(op, q.KeyID, q.Fingerprint)
		}
		for _, d := range r.Duties {
			j.names(op, d.KeyID, d.Fingerprint)
		}
	}
	s, stamped := rotation.ParseStamp(j.stamps[op.KeyID])
	if ours := stamped && s.Install == j.Install && s.Key == j.Key.Name; !ours && !duty && !pending {
		j.say(op, "I4: taken away, but rekey did not make it and no record names it as a key to revoke")
	}
	if (pending || j.was[f]) && !written {
		j.say(op, "I3: taken away before that was written down in a record")
	}
	if j.was[f] {
		j.takingAwayFormer(op, f, duty)
	}
}

// takingAwayFormer: a key that applications have read stays for the grace period, and is disabled before it is deleted.
func (j *judge) takingAwayFormer(op Op, f string, duty bool) {
	if !duty {
		j.say(op, "I4: applications have read it, and no record names it as a key to revoke")
	}
	if j.Reason == rotation.Emergency {
		return
	}
	p := j.Key.Policy
	if since, ok := j.left[f]; ok && op.Began.Before(since.Add(time.Duration(p.Grace)-tolerance)) {
		j.say(op, "I2: taken away %v after all stores published another one; grace is %v", op.Began.Sub(since).Round(time.Second), p.Grace)
	}
	if op.Kind != Delete || !j.Provider.Disable || p.Soak == 0 {
		return
	}
	switch since, ok := j.disabled[op.KeyID]; {
	case !ok:
		j.say(op, "I2: deleted without having been disabled first")
	case op.Began.Before(since.Add(time.Duration(p.Soak) - tolerance)):
		j.say(op, "I2: deleted %v after it was disabled; soak is %v", op.Began.Sub(since).Round(time.Second), p.Soak)
	}
}

// names: what a record says of a key to take away is true.
func (j *judge) names(op Op, keyID, fingerprint string) {
	if f := j.valueOf[keyID]; keyID == op.KeyID && f != "" && fingerprint != "" && f != fingerprint {
		j.say(op, "I4: a record names it with the value %s, and its value is %s", fingerprint, f)
	}
}

func hasDuty(r *store.Record, fingerprint, keyID string) bool {
	return slices.ContainsFunc(r.Duties, func(d store.Duty) bool {
		return d.KeyID != "" && d.KeyID == keyID || d.Fingerprint != "" && d.Fingerprint == fingerprint
	})
}

// used: no request of an application fails. In an emergency there is no grace for those that keep a copy.
func (j *judge) used(op Op) {
	switch {
	case op.By == theEnd:
		if j.accepted == nil {
			j.accepted = map[string]bool{}
		}
		j.accepted[op.Fingerprint] = op.Accepted
	case op.Accepted:
	case op.Problem != "":
		j.say(op, "I1: %s", op.Problem)
	case !op.Cached:
		j.say(op, "I1: refused, although it is what the store publishes")
	case j.Reason != rotation.Emergency:
		j.say(op, "I2: refused, although it was read %v ago and grace is %v", op.Held.Round(time.Second), j.Key.Policy.Grace)
	}
}

// lists learns stamps, and counts.
func (j *judge) lists(op Op) {
	for _, k := range op.Keys {
		if k.Stamp != "" {
			j.stamps[k.ID] = k.Stamp
		}
		if _, ok := j.disabled[k.ID]; k.Disabled && !ok {
			j.disabled[k.ID] = time.Time{} // before this history begins, by an emergency that was terminated
		}
	}
	if op.By == theEnd {
		j.endKeys, j.listed = op.Keys, true
		return
	}
	lost := 0
	for _, u := range j.unanswered {
		if u.Kind == Mint {
			lost++
		}
	}
	if n, may := len(op.Keys), 2+lost; n > may {
		j.say(op, "I3: %d keys at once, want at most %d", n, may)
	}
}
