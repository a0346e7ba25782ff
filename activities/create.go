package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

type providerKey = provider.Key

// CreateInput asks for a new key, staged as pending in the first store.
type CreateInput struct {
	Target
	StartedAt time.Time `json:"startedAt"`
	// ApprovedQuestions are the questions that a person has approved: an approval counts for the kind of question and the ids that it
	// names, and reaches no further.
	ApprovedQuestions []rotation.Ask `json:"approvedQuestions,omitempty"`
	// Replace is the fingerprint of what this rotation has staged and the provider refuses for good: another key takes its
	// place.
	Replace string `json:"replace,omitempty"`
	// Predecessors: see PrepareInput.
	Predecessors []string `json:"predecessors,omitempty"`
}

// Created is either the staged key, or what has to happen before another attempt.
type Created struct {
	New *Ref `json:"new,omitempty"`
	// Wait, if set: an earlier attempt may still take effect; ask again after this long.
	Wait rotation.Duration `json:"wait,omitempty"`
	// Question, if set, must be approved by a person; ask again with it among ApprovedQuestions.
	Question *rotation.Ask `json:"question,omitempty"`
}

// Create mints and stages inside one activity, so that the plaintext never leaves this worker's memory except
// into the store. It runs at most one mint: the workflow must not retry it by itself, but ask again and do what
// the answer says.
//
// Killed at any point, the next call finds its way from what is in the first store: the staged value,
// or only the claim of an attempt whose outcome nobody knows, which is waited out and swept by its stamp.
func (s *Steps) Create(ctx context.Context, in CreateInput) (Created, error) {
	j, err := s.changing(ctx, in.Target)
	if err != nil {
		return Created{}, err
	}
	m := &mint{job: j, in: in}
	if m.records, err = j.loadAll(ctx); err != nil {
		return Created{}, err
	}
	if done := m.alreadyStaged(m.records); done != nil {
		if done.Fingerprint != in.Replace || isCurrent(*done, m.records) {
			return Created{New: done}, nil
		}
		m.refused = done
	}
	if q := j.foreignClaim(m.records, in.StartedAt, in.Predecessors); q != nil && !q.In(in.ApprovedQuestions) {
		return Created{Question: q}, nil
	}
	if m.records[0], err = j.redate(ctx, 0, m.records[0]); err != nil {
		return Created{}, err
	}
	if wait := m.stillOpen(); wait > 0 {
		return Created{Wait: waitFor(wait)}, nil
	}
	if answer, err := m.look(ctx); err != nil || answer.Question != nil {
		return answer, err
	}
	if err := m.claim(ctx); err != nil {
		return Created{}, err
	}
	if err := m.deleteLeftovers(ctx); err != nil {
		m.snap.Pending = m.left // the next attempt has to know what is left, and how young it is
		m.settle(ctx)
		return Created{}, err
	}
	ref, err := m.mintAndStage(ctx)
	return Created{New: ref}, err
}

// mint is one attempt.
type mint struct {
	*job
	in      CreateInput
	records []store.Snapshot
	keys    []provider.Key
	// refused is what this rotation has staged and the provider refuses for good.
	refused *Ref
	// left is what stood as pending before this attempt took the claim.
	left *store.Version
	// snap is the first store's record as this attempt saved it.
	snap  store.Snapshot
	stamp rotation.Stamp
}

// alreadyStaged finds the value that this rotation staged before, also if it was promoted since: a workflow that
// was reset comes here again.
func (j *job) alreadyStaged(records []store.Snapshot) *Ref {
	var found *Ref
	for i, r := range records {
		for _, v := range r.Stages() {
			if v.Rotation != j.Rotation {
				continue
			}
			if found == nil {
				ref := j.refOf(v, i)
				found = &ref
			} else if found.is(Ref{KeyID: v.KeyID, Fingerprint: v.Fingerprint}) {
				found.Numbers[i] = v.Number
			}
		}
	}
	return found
}

// isCurrent reports whether a record names the value as current.
func isCurrent(r Ref, records []store.Snapshot) bool {
	return slices.ContainsFunc(records, func(s store.Snapshot) bool { return staged(r, s.Current) })
}

// stillOpen is how long the attempt that holds the claim may still take effect.
func (m *mint) stillOpen() time.Duration {
	c := m.records[0].Claim
	if c == nil || c.Settled {
		return 0
	}
	return c.At.Add(m.horizon()).Sub(m.now())
}

// waitFor rounds up to a whole second: durations travel in milliseconds, and a wait that became 0 would read as none.
func waitFor(d time.Duration) rotation.Duration {
	return rotation.Duration((d + time.Second - 1).Truncate(time.Second))
}

// look asks a person about what earlier attempts and rotations left and nobody can prove to be ours. Nothing of
// theirs can take effect any more.
func (m *mint) look(ctx context.Context) (Created, error) {
	if m.caps.List {
		var err error
		if m.keys, err = m.provider.List(ctx, m.Key.Account); err != nil {
			return Created{}, err
		}
	}
	var questions []rotation.Ask
	ask := func(about []string, format string, args ...any) {
		questions = append(questions, rotation.Ask{Kind: UnprovenKeys, About: about, Text: fmt.Sprintf(format, args...)})
	}
	if ids := m.unproven(m.records[0].Claim, m.keys, m.records); len(ids) > 0 {
		ask(ids, "A mint of this rotation was not answered, and since then %s appeared at %s. Whether rekey made it cannot be proven, so rekey leaves it alone. Look who made it, delete it if nobody did, then approve.",
			strings.Join(ids, ", "), m.Key.Account)
	}
	if p := m.records[0].Pending; p != nil && p.Rotation == "" {
		ask([]string{m.Key.Stores[0].String() + " version " + p.Number}, "Version %s is pending in %s and no rotation put it there. Approve to leave it aside and mint a new key.", p.Number, m.Key.Stores[0])
	}
	if ids := m.unknown(m.keys, m.records); len(ids) > 0 {
		ask(ids, "%s of %s carry this key's stamp, but no store knows of them. That is so after a restored backup, or when the key's path has changed: applications may still read them there, so rekey leaves them alone. Delete what nobody uses, then approve.",
			strings.Join(ids, ", "), m.Key.Account)
	}
	for _, q := range questions {
		if !q.In(m.in.ApprovedQuestions) {
			return Created{Question: &q}, nil
		}
	}
	return Created{}, nil
}

// deleteLeftovers deletes what earlier attempts and rotations left. It runs under the claim: without it, an attempt that
// comes late could stage a key after it was deleted here.
func (m *mint) deleteLeftovers(ctx context.Context) error {
	records := []store.Snapshot{m.snap}
	defer func() { m.snap = records[0] }()
	if r := m.refused; r != nil && r.KeyID != "" && r.Stamp != "" {
		if _, err := m.takeAway(ctx, *r, DeleteKey, false, records); err != nil {
			return err
		}
		m.audit(ctx, "refused key deleted", "key_id", r.KeyID, "stamp", r.Stamp)
	}
	for _, k := range m.leftovers(m.keys, m.records) {
		if _, err := m.takeAway(ctx, Ref{KeyID: k.ID}, DeleteKey, false, records); err != nil {
			return err
		}
		m.audit(ctx, "leftover key deleted", "key_id", k.ID, "stamp", k.Stamp)
	}
	// What a closed rotation left pending is the value of one of them. Another install's is not ours to destroy.
	if m.left != nil && m.ours(m.left.Stamp) {
		return m.stores[0].Destroy(ctx, m.path(0), m.left.Number)
	}
	return nil
}

// unproven are the keys that appeared while an attempt without an answer was under way, where the provider keeps
// no stamps.
func (j *job) unproven(c *store.Claim, keys []provider.Key, records []store.Snapshot) []string {
	if j.caps.Stamps || !j.caps.List || c == nil || c.Settled || c.Install != j.Install {
		return nil
	}
	var ids []string
	for _, k := range keys {
		if !slices.Contains(c.Before, k.ID) && !j.isStaged(Ref{KeyID: k.ID}, records) {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

// unknown are keys with our stamp that no store has, of rotations that no record names: whoever reads them now, it
// is not through these records.
func (j *job) unknown(keys []provider.Key, records []store.Snapshot) []string {
	var ids []string
	for _, k := range keys {
		if j.ours(k.Stamp) && !j.isStaged(Ref{KeyID: k.ID}, records) && !j.knows(k.Stamp, records) {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

// knows reports whether a stamp is of this rotation, or of one that a record still names: by its claim, which only its
// end returns back, or by what it left pending.
func (j *job) knows(stamp string, records []store.Snapshot) bool {
	s, _ := rotation.ParseStamp(stamp)
	return s.Rotation == j.Rotation || slices.ContainsFunc(records, func(r store.Snapshot) bool {
		return r.Claim != nil && r.Claim.Install == j.Install && r.Claim.Rotation == s.Rotation || r.Pending != nil && r.Pending.Rotation == s.Rotation
	})
}

// ours reports whether a stamp is one of this install and key.
func (j *job) ours(stamp string) bool {
	s, ok := rotation.ParseStamp(stamp)
	return ok && s.Install == j.Install && s.Key == j.Key.Name
}

// leftovers are our keys that are in no store, or only as what another rotation left pending: one rotation runs at
// a time, so nobody will ever promote that. Only who holds the claim may delete them; keys and records must be from
// before it was taken.
func (j *job) leftovers(keys []provider.Key, records []store.Snapshot) []provider.Key {
	// What a record names as pending and stamped is ours also where the provider keeps no stamps, and exists also
	// where its list lags.
	keys = slices.Clone(keys)
	for _, s := range records {
		if p := s.Pending; p != nil && p.KeyID != "" && p.Stamp != "" {
			keys = slices.DeleteFunc(keys, func(k provider.Key) bool { return k.ID == p.KeyID })
			keys = append(keys, provider.Key{ID: p.KeyID, Stamp: p.Stamp})
		}
	}
	return slices.DeleteFunc(keys, func(k provider.Key) bool {
		return !j.ours(k.Stamp) || !j.knows(k.Stamp, records) || j.isStaged(Ref{KeyID: k.ID}, records)
	})
}

func hasKey(keys []provider.Key, id string) bool {
	return slices.ContainsFunc(keys, func(k provider.Key) bool { return k.ID == id })
}

// isStaged reports whether any record names the key, under a stage or as a duty. What a closed rotation left
// pending does not count: nobody will ever promote it.
func (j *job) isStaged(r Ref, records []store.Snapshot) bool {
	records = slices.Clone(records)
	for i, s := range records {
		if p := s.Pending; p != nil && p.Stamp != "" && p.Rotation != j.Rotation {
			records[i].Pending = nil
		}
	}
	return named(r, records)
}

// named reports whether any record names the key, under a stage or as a duty.
func named(r Ref, records []store.Snapshot) bool {
	for _, s := range records {
		if staged(r, s.Pending, s.Current, s.Previous) {
			return true
		}
		for _, d := range s.Duties {
			if r.is(Ref{KeyID: d.KeyID, Fingerprint: d.Fingerprint}) {
				return true
			}
		}
	}
	return false
}

// claim takes the right to stage, by compare-and-set, before anything is minted.
func (m *mint) claim(ctx context.Context) error {
	s := m.records[0]
	attempt := 1
	if c := s.Claim; c != nil && c.Install == m.Install && c.Rotation == m.Rotation {
		attempt = c.Attempt + 1
	}
	if attempt > rotation.MaxAttempt {
		return fault.New(fault.Rejected, "attempts", "mint a key for "+m.Key.Name).WithAdvice("%d attempts went wrong. Find out why, then start a new rotation.", rotation.MaxAttempt)
	}
	m.stamp = m.job.stamp(attempt)
	s.Install = m.Install
	s.Claim = &store.Claim{Install: m.Install, Rotation: m.Rotation, Attempt: attempt, At: m.now()}
	if !m.caps.Stamps {
		// What is about to be deleted is not among them: cut off before that, a person is asked about it.
		left := m.leftovers(m.keys, m.records)
		for _, k := range m.keys {
			if !hasKey(left, k.ID) {
				s.Claim.Before = append(s.Claim.Before, k.ID)
			}
		}
	}
	if m.left, s.Pending = s.Pending, nil; m.left != nil {
		m.aside = append(m.aside, *m.left)
	}
	var err error
	m.snap, err = m.stores[0].Save(ctx, m.path(0), s)
	return err
}

func (m *mint) mintAndStage(ctx context.Context) (*Ref, error) {
	minted, err := m.provider.Mint(ctx, m.Key.Account, m.stamp.String())
	if err != nil {
		if !fault.Of(err).Unsettled {
			m.settle(ctx)
		}
		return nil, err
	}
	m.audit(ctx, "key minted", "key_id", minted.ID, "stamp", m.stamp.String(), "fingerprint", minted.Value.Fingerprint())
	return m.stage(ctx, minted)
}

// settle notes in the claim that a failed attempt made nothing, so that nobody has to wait out the horizon.
func (m *mint) settle(ctx context.Context) {
	s := m.snap
	claim := *s.Claim
	claim.Settled = true
	s.Claim = &claim
	// If this fails the horizon is waited out for nothing.
	_, _ = m.stores[0].Save(ctx, m.path(0), s)
}

// stage commits the minted key on the claim. If the claim is lost, or the store takes no value, the key that only
// we know is deleted by its id.
func (m *mint) stage(ctx context.Context, minted provider.Minted) (*Ref, error) {
	number, err := retryThrottled(ctx, func() (string, error) { return m.stores[0].Add(ctx, m.path(0), minted.Value) })
	if err != nil {
		return nil, m.deleteUnstaged(ctx, minted, "", err)
	}
	v := store.Version{
		Number: number, KeyID: minted.ID, Stamp: m.stamp.String(), Rotation: m.Rotation,
		Fingerprint: minted.Value.Fingerprint(), StagedAt: m.now(),
	}
	for try := 0; ; try++ {
		s := m.snap
		s.Pending = &v
		// What a first attempt asked for was answered. After a second one the first may still haunt us.
		claim := *s.Claim
		claim.Settled = claim.Attempt == 1
		s.Claim = &claim
		if m.snap, err = retryThrottled(ctx, func() (store.Snapshot, error) { return m.stores[0].Save(ctx, m.path(0), s) }); err == nil {
			break
		}
		if !store.IsConflict(err) || try == 4 {
			return nil, m.deleteUnstaged(ctx, minted, number, err)
		}
		if m.snap, err = m.load(ctx, 0); err != nil {
			return nil, m.deleteUnstaged(ctx, minted, number, err)
		}
		if c := m.snap.Claim; c == nil || c.Install != m.Install || c.Rotation != m.Rotation || c.Attempt > m.stamp.Attempt {
			return nil, m.deleteUnstaged(ctx, minted, number, fault.New(fault.Rejected, "claim_lost", "stage the new key of "+m.Key.Name).
				WithAdvice("Another attempt took the claim; this one has deleted its own key."))
		}
	}
	m.audit(ctx, "key staged", "key_id", minted.ID, "store", m.Key.Stores[0].String(), "version", number)
	ref := m.refOf(v, 0)
	return &ref, nil
}

// quotaPause is how long to wait when a store's quota refuses a request. Google's docs: 2 changes a second for each
// secret.
const quotaPause = time.Second

// quotaTimeout is the longest pause that is worth it inside a step, which holds a worker's slot and hears nothing.
const quotaTimeout = 15 * time.Second

// retryThrottled repeats a request that a quota refused, so that nothing took effect: without it the key that was just minted
// would have to be deleted, and the next attempt would meet the same quota.
func retryThrottled[T any](ctx context.Context, request func() (T, error)) (T, error) {
	for try := 0; ; try++ {
		out, err := request()
		if err == nil || !fault.Is(err, fault.Throttled) || fault.Of(err).Unsettled || fault.Of(err).RetryAfter > quotaTimeout || try == 4 {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(max(quotaPause, fault.Of(err).RetryAfter)):
		}
	}
}

// deleteUnstaged deletes a key that was minted but not staged, by its id, and the version that holds it. A crash before
// this leaves it to the sweep, which knows it by its stamp; where there are no stamps, to a person.
func (m *mint) deleteUnstaged(ctx context.Context, minted provider.Minted, number string, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*m.caps.RequestTimeout+5*time.Second)
	defer cancel()
	// A Save without an answer may have taken effect: then the key is staged and stays. It may also take effect
	// after this look; writing the record once more makes it too late for that.
	unanswered, isStaged := number != "" && fault.Of(why).Unsettled, false
	if _, err := m.edit(ctx, 0, func(s *store.Snapshot) (bool, error) {
		isStaged = staged(Ref{KeyID: minted.ID, Fingerprint: minted.Value.Fingerprint()}, s.Pending, s.Current)
		return unanswered && !isStaged, nil
	}); err != nil || isStaged {
		return asUnsettled(why)
	}
	if err := m.provider.Delete(ctx, m.Key.Account, minted.ID); err != nil {
		return asUnsettled(why)
	}
	m.audit(ctx, "unstaged key deleted", "key_id", minted.ID, "stamp", m.stamp.String())
	if number != "" {
		_ = m.stores[0].Destroy(ctx, m.path(0), number)
	}
	return why
}

// asUnsettled marks a failure as one that may have left something behind.
func asUnsettled(err error) error {
	f := *fault.Of(err)
	f.Unsettled = true
	return &f
}
