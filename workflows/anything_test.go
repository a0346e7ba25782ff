package workflows_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/lockstep"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/rotation/signed"
	"github.com/rekeyhq/rekey/workflows"
)

var (
	firstSeed = flag.Uint64("anything.first", 1, "the first seed of TestAnythingAtAnyMoment")
	seeds     = flag.Uint64("anything.seeds", 80, "how many seeds TestAnythingAtAnyMoment tries")
)

// Any message, any answer of an activity, any pause, and any change of worker or run, in any number within one workflow
// task: the rotation moves along the arrows of its diagram only, takes away nothing that it did not promote something else
// for, and comes to its end when the world calms down and people answer.
func TestAnythingAtAnyMoment(t *testing.T) {
	t.Parallel()
	f := lockstep.New(t, func(r worker.WorkflowRegistry) {
		workflows.RegisterRotation(r)
	}, lockstep.Options{})
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		c := newChaos(t, f, seed)
		if err := c.play(); err != nil {
			t.Errorf("seed %d: %v\n%s", seed, err, strings.Join(c.log[max(0, len(c.log)-40):], "\n"))
		}
	}
}

// chaos is one rotation, and a world in which anything happens.
type chaos struct {
	*testing.T
	*rand.Rand
	f   *lockstep.Frontend
	run *lockstep.Run
	key rotation.Key
	// prepared is what the shape of the provider makes Prepare say.
	prepared  activities.Prepared
	operators []rotation.Operator
	log       []string
	// keys counts the keys that were made, asked the questions that were put, messages what was sent.
	keys, asked, messages int
	rotations             map[string]*activities.Ref
	// current is what applications read in every store; empty while stores disagree.
	current string
}

func newChaos(t *testing.T, f *lockstep.Frontend, seed uint64) *chaos {
	c := &chaos{T: t, Rand: rand.New(rand.NewPCG(seed, 7)), f: f, rotations: map[string]*activities.Ref{}}
	p := rotation.Preset(rotation.Production1)
	p.Patience, p.Grace = rotation.Duration(30*time.Minute), rotation.Duration(pick(c, time.Hour, 0, 48*time.Hour))
	p.MaxGrace = p.Grace + rotation.Duration(6*time.Hour)
	p.Soak = rotation.Duration(pick(c, time.Hour, 0))
	p.UnknownUse = pick(c, rotation.UnknownTimer, rotation.UnknownApprove, rotation.UnknownNever)
	p.Approve = c.IntN(3) == 0
	if c.IntN(2) == 0 {
		p.Notify = []rotation.Channel{{Name: "team"}}
	}
	if c.IntN(3) == 0 {
		p.Escalate = []rotation.Channel{{Name: "boss"}}
	}
	c.key = rotation.Key{Name: "demo", Provider: "google", Account: "demo@example.com", Tier: rotation.Production1, Policy: p,
		Stores: []rotation.Location{{Store: "local", Path: "demo"}, {Store: "other", Path: "demo"}}[:1+c.IntN(2)]}
	if c.IntN(4) == 0 {
		c.key.ConflictsWith = []string{"other"}
	}
	byHand := c.IntN(3) == 0
	c.prepared = activities.Prepared{
		SupplyByHand: byHand, RevokeByHand: byHand || c.IntN(6) == 0, OldRefused: c.IntN(6) == 0,
		Propagation: rotation.Duration(time.Minute), RevocationLag: rotation.Duration(time.Minute), Horizon: rotation.Duration(time.Minute), ReadLag: rotation.Duration(5 * time.Second),
		ProviderConsole: "https://console.example.com", StoreConsole: "https://store.example.com",
	}
	c.prepared.CanDisable = !c.prepared.RevokeByHand && c.IntN(3) > 0
	if c.IntN(3) == 0 {
		for _, name := range []string{"alice", "bob"} {
			c.operators = append(c.operators, rotation.Operator{Name: name, Key: signed.Line(sshKey(t, name).PublicKey())})
		}
	}
	in := workflows.Input{Key: c.key, Reason: pick(c, rotation.Manual, rotation.Scheduled, rotation.Emergency), By: "test"}
	if in.Reason == rotation.Emergency {
		in.Emergencies = []rotation.Decision{{DecisionMessage: c.emergency()}}
	}
	c.run = f.Start("RotateKey", lockstep.StartOptions{ID: workflows.ID("demo"), SearchAttributes: workflows.StartAttributes(c.key, in.Reason)}, in)
	if c.IntN(2) == 0 {
		c.run.SuggestContinueAsNewAfter(12 + c.IntN(60))
	}
	return c
}

func pick[T any](c *chaos, from ...T) T { return from[c.IntN(len(from))] }

func (c *chaos) say(format string, args ...any) { c.log = append(c.log, fmt.Sprintf(format, args...)) }

// play lets anything happen for a while, and then calms down.
func (c *chaos) play() error {
	for n, until := 0, 20+c.IntN(120); n < until; n++ {
		if c.happen(); c.run.Ready() {
			if err := c.task(); err != nil || c.run.Closed() {
				return err
			}
		}
	}
	c.say("--- it calms down")
	alone := c.IntN(3) == 0
	for range 600 {
		if alone && !c.run.Ready() {
			if s, err := c.status(); err != nil || s.Overdue {
				return err // it waits, and says so
			}
		}
		if err := c.calm(alone); err != nil {
			return err
		}
		if err := c.task(); err != nil || c.run.Closed() {
			return err
		}
	}
	s, err := c.status()
	return fmt.Errorf("it does not come to its end: %w\n%s\n%s", err, c.run.Pending(), s.Details)
}

// task is one workflow task; if the run is continued, the next one begins.
func (c *chaos) task() error {
	_, err := c.run.Task()
	if err != nil {
		return err
	}
	for _, a := range c.run.Pending().Activities {
		if err := c.look(a); err != nil {
			return err
		}
	}
	if next := c.run.Continued(); next != nil {
		c.run = next
		c.say("continued")
		if c.IntN(3) == 0 {
			c.message()
		}
		return c.task()
	}
	return nil
}

// look judges what the rotation asks for.
func (c *chaos) look(a lockstep.Activity) error {
	if a.Type != "Revoke" {
		return nil
	}
	var in activities.RevokeInput
	if err := a.Decode(&in); err != nil {
		c.Fatal(err)
	}
	for _, k := range in.Keys {
		if in.Mode != activities.EnableKey && !in.Contain && (in.Keep.Fingerprint != c.current || k.Fingerprint == c.current) {
			return fmt.Errorf("%s %s, keep %s, while applications read %q", in.Mode, k.Fingerprint, in.Keep.Fingerprint, c.current)
		}
	}
	return nil
}

// happen lets a few things happen at once.
func (c *chaos) happen() {
	for range 1 + c.IntN(3) {
		switch c.IntN(12) {
		case 0, 1, 2, 3, 4:
			if open := c.run.Pending().Activities; len(open) > 0 {
				c.run.Wait(pick(c, time.Second, 30*time.Second, time.Minute))
				c.answer(pick(c, open...), false)
			}
		case 5, 6:
			if timer, ok := c.run.NextTimer(); ok {
				c.say("timer %s (%s)", timer.FireAt.Format(time.RFC3339), timer.Summary)
				c.run.Advance(latest(timer.FireAt, c.run.Now()))
			}
		case 7, 8, 9:
			c.message()
		case 10:
			pick(c, c.run.DropCache, c.run.OtherWorker, c.run.LoseCache)()
		case 11:
			if c.IntN(3) == 0 {
				c.say("time passes")
				c.run.AdvanceBy(pick(c, time.Minute, time.Hour, 24*time.Hour))
			}
		}
	}
	for _, child := range c.run.Pending().Children {
		if !child.Started {
			c.run.StartChild(child.ID)
		}
	}
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// calm lets time pass. If the rotation is not left alone, what it asks is answered.
func (c *chaos) calm(alone bool) error {
	done := false
	for _, child := range c.run.Pending().Children {
		if !child.Started {
			c.run.StartChild(child.ID)
			done = true
		}
	}
	for _, a := range c.run.Pending().Activities {
		c.run.Wait(time.Second)
		c.answer(a, true)
		done = true
	}
	if done || c.run.Ready() {
		return nil
	}
	s, err := c.status()
	if err != nil {
		return err
	}
	waits := slices.ContainsFunc(s.Accepts, func(k rotation.DecisionKind) bool {
		return slices.Contains([]rotation.DecisionKind{rotation.Approve, rotation.KeySupplied, rotation.KeyRevoked}, k)
	})
	if _, ok := c.run.NextTimer(); waits && s.Deadline.IsZero() && !ok {
		return fmt.Errorf("it waits for a person without a deadline:\n%s", s.Details)
	}
	switch {
	case alone:
	case s.Phase == rotation.AwaitingApproval:
		c.send(rotation.Approve, rotation.DecisionMessage{By: "ana", Why: "yes"}, s)
	case s.Phase == rotation.AwaitingKey:
		c.send(rotation.KeySupplied, rotation.DecisionMessage{By: "ana", Version: "7"}, s)
	case s.Phase == rotation.AwaitingRevocation:
		c.send(rotation.KeyRevoked, rotation.DecisionMessage{By: "ana"}, s)
	default:
		if slices.Contains(s.Accepts, rotation.Approve) { // on the way back
			c.send(rotation.Approve, rotation.DecisionMessage{By: "ana", Why: "yes"}, s)
		} else if slices.Contains(s.Accepts, rotation.KeyRevoked) {
			c.send(rotation.KeyRevoked, rotation.DecisionMessage{By: "ana"}, s)
		}
	}
	if timer, ok := c.run.NextTimer(); ok {
		c.run.Wait(time.Second)
		c.say("timer %s (%s)", timer.FireAt.Format(time.RFC3339), timer.Summary)
		c.run.Advance(latest(timer.FireAt, c.run.Now()))
	}
	if !c.run.Ready() {
		return fmt.Errorf("it waits for nothing:\n%s", s.Details)
	}
	return nil
}

func (c *chaos) status() (s rotation.Status, err error) {
	v, err := c.run.Query(workflows.StatusQuery)
	if err == nil {
		err = v.Get(&s)
	}
	return s, err
}

func (c *chaos) emergency() rotation.DecisionMessage {
	m := rotation.DecisionMessage{By: "responder", Why: "leaked", RevokeFirst: c.IntN(4) == 0, For: pick(c, 0, rotation.Duration(time.Hour))}
	if c.IntN(2) == 0 {
		m.Leaked = []string{fmt.Sprintf("%012d", c.IntN(c.keys+1))}
	}
	return m
}

// message sends something, as an update or as a signal.
func (c *chaos) message() {
	kind := pick(c, rotation.DecisionKinds()...)
	m := rotation.DecisionMessage{By: "ana", Why: "because"}
	switch kind {
	case rotation.KeySupplied:
		m.Version = fmt.Sprint(5 + c.IntN(4))
	case rotation.ExtendGrace, rotation.ExtendDeadline:
		m.For = rotation.Duration(pick(c, time.Minute, 5*time.Hour))
	case rotation.RaiseEmergency:
		if c.IntN(3) > 0 {
			return // they would end everything else
		}
		m = c.emergency()
	case rotation.RollBack:
		if c.IntN(3) == 0 {
			c.say("cancel")
			c.run.Cancel()
			return
		}
	}
	var s rotation.Status
	if len(c.operators) > 0 && !c.run.Ready() && c.run.WorkflowTasks() > 0 {
		s, _ = c.status()
	}
	c.send(kind, m, s)
}

func (c *chaos) send(kind rotation.DecisionKind, m rotation.DecisionMessage, s rotation.Status) {
	c.messages++
	m.ID = fmt.Sprint("m", c.messages)
	if s.Signing != nil && s.Signing.Kind == kind {
		for _, o := range c.operators {
			if !s.Signing.Has(o.Name) {
				m.By, m.SignedAt = o.Name, c.run.Now()
				m.Signature, _ = signed.Sign(sshKey(c.T, o.Name), signed.Text(s.Signing.Question, m))
				break
			}
		}
	}
	if c.IntN(2) == 0 {
		c.say("update %s %v by %s", kind, m.Leaked, m.By)
		c.run.Update(string(kind), "", m)
		return
	}
	c.say("signal %s %v by %s", kind, m.Leaked, m.By)
	c.run.Signal(string(kind), m)
}

func (c *chaos) ref() activities.Ref {
	c.keys++
	r := activities.Ref{Fingerprint: fmt.Sprintf("%012d", c.keys), Numbers: make([]string, len(c.key.Stores))}
	if !c.prepared.SupplyByHand {
		r.KeyID, r.Stamp = fmt.Sprintf("key%d", c.keys), "stamp"
	}
	for i := range r.Numbers {
		r.Numbers[i] = fmt.Sprint(c.keys)
	}
	return r
}

// answer ends an activity, well or badly.
func (c *chaos) answer(a lockstep.Activity, well bool) {
	again := a.Options.GetRetryPolicy().GetMaximumAttempts() == 0
	switch {
	case a.CancelRequested && c.IntN(2) == 0:
		c.say("%s cancelled", a.Type)
		c.run.CancelActivity(a.ID)
		return
	case !well && c.IntN(4) == 0 && (!again || c.IntN(3) == 0 || a.CancelRequested):
		err := c.failure(a, again && !a.CancelRequested)
		c.say("%s fails: %v", a.Type, err)
		c.run.FailActivity(a.ID, err)
		return
	}
	out := c.result(a, well)
	c.say("%s: %+v", a.Type, out)
	c.run.CompleteActivity(a.ID, out)
}

func (c *chaos) failure(a lockstep.Activity, definite bool) error {
	classes := []fault.Class{fault.Rejected, fault.Internal}
	if !definite {
		classes = append(classes, fault.AccessDenied, fault.Unavailable, fault.Throttled, "")
	}
	class := pick(c, classes...)
	f := activities.Failure{Code: "x", Unsettled: c.IntN(2) == 0, Retried: c.IntN(2) == 0}
	switch {
	case class == "":
		return temporal.NewTimeoutError(1, errors.New("too late")) // START_TO_CLOSE
	case class == fault.Throttled && c.IntN(2) == 0:
		f.RetryAfter = rotation.Duration(pick(c, 2*time.Minute, time.Hour, 24*time.Hour))
	case a.Type == "Revoke" && class == fault.Rejected && len(c.operators) > 0:
		f.Code = activities.FourEyes
	}
	return temporal.NewApplicationErrorWithOptions("the test says no", string(class), temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{f}})
}

// ask is a question of an activity.
func (c *chaos) ask(kind string) *rotation.Ask {
	c.asked++
	return &rotation.Ask{Kind: kind, About: []string{fmt.Sprint(c.asked)}, Text: "Is that right?"}
}

// result is what an activity says in which nothing failed.
func (c *chaos) result(a lockstep.Activity, well bool) any {
	rare := func() bool { return !well && c.IntN(5) == 0 }
	decode := func(to any) {
		if err := a.Decode(to); err != nil {
			c.Fatal(err)
		}
	}
	switch a.Type {
	case activities.ConflictName:
		if rare() {
			return "other"
		}
		return ""
	case "Prepare":
		var in activities.PrepareInput
		decode(&in)
		return c.prepare(in, rare)
	case "Create":
		if rare() {
			return activities.Created{Question: c.ask(activities.UnprovenKeys)}
		} else if rare() {
			return activities.Created{Wait: rotation.Duration(time.Minute)}
		}
		r := c.ref()
		return activities.Created{New: &r}
	case "Adopt":
		if rare() {
			return activities.Adopted{Question: c.ask(activities.ForeignClaim)}
		} else if rare() {
			return activities.Adopted{Unusable: "It is no key.", Stays: "7"}
		}
		r := c.ref()
		return activities.Adopted{New: &r}
	case "Store":
		var in activities.StoreInput
		decode(&in)
		return in.New
	case "Verify":
		if rare() {
			return activities.Verified{Why: "It is refused.", Final: c.IntN(2) == 0}
		}
		if rare() {
			return activities.Verified{Wait: rotation.Duration(time.Minute)}
		}
		return activities.Verified{OK: true}
	case "Promote":
		var in activities.PromoteInput
		decode(&in)
		if rare() {
			found := c.ref()
			return activities.Promoted{To: in.To, Question: c.ask(activities.ChangedCurrent), Found: []activities.Ref{found}}
		}
		c.current = ""
		if rare() {
			return activities.Promoted{To: in.To, Lagging: []string{"local:demo"}}
		}
		c.current = in.To.Fingerprint
		return activities.Promoted{To: in.To}
	case "CheckHealth":
		return activities.Health{New: !rare(), Old: c.IntN(2) == 0, Current: !rare(), Why: "So it is."}
	case "Guard":
		var in activities.GuardInput
		decode(&in)
		var all []rotation.UsageReport
		for range in.Old {
			s := rotation.UsageReport{Known: !rare(), Message: "nobody knows", AskedAt: c.run.Now()}
			if rare() {
				s.LastUsed = c.run.Now()
			}
			all = append(all, s)
		}
		return all
	case "Revoke":
		var in activities.RevokeInput
		decode(&in)
		var out activities.Revoked
		for _, k := range in.Keys {
			if rare() {
				out.Gone = append(out.Gone, k.Name())
			}
		}
		return out
	case "Confirm":
		var in activities.ConfirmInput
		decode(&in)
		out := activities.Confirmed{NewRefused: rare()}
		for _, k := range in.Keys {
			if rare() {
				out.Accepted = append(out.Accepted, k.Name())
			} else if rare() {
				out.Unproven = append(out.Unproven, k.Name())
			}
		}
		return out
	case "Retire":
		if rare() {
			return activities.Retired{SweepIn: rotation.Duration(time.Minute), FollowUps: []string{"Look."}}
		}
		return activities.Retired{}
	case "Discard":
		if rare() {
			published := c.ref()
			return activities.Discarded{Published: &published}
		}
		return activities.Discarded{}
	case "Signers":
		return c.operators
	}
	return nil
}

func (c *chaos) prepare(in activities.PrepareInput, rare func() bool) activities.Prepared {
	out := c.prepared
	out.Signers = c.operators
	out.Verdict = rotation.Verdict{Work: rotation.Rotate, Rule: "asked", Message: "A person asked for it."}
	out.Old = []activities.Ref{c.ref()}
	for range c.IntN(3) {
		out.Old = append(out.Old, c.ref())
	}
	switch {
	case rare():
		out.Question = c.ask(activities.ForeignClaim)
	case rare():
		out.Verdict.Work, out.Old = rotation.Nothing, nil
	case rare():
		current := c.ref()
		out.Verdict.Work, out.New, out.RotateAfter = rotation.Finish, &current, c.IntN(2) == 0
	case rare():
		out.Old = nil
	case rare():
		out.StartAnew = true
	case rare():
		out.Wait = rotation.Duration(time.Minute)
	case rare() && in.Reason == rotation.Emergency && len(in.Leaked) > 0:
		out.Unknown, out.NothingKnown = []string{"Nobody knows it."}, true
	}
	return out
}
