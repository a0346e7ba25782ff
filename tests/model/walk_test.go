package model

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/lockstep"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// once are seeds of stories in which the workflow once went elsewhere, and how. A change of the walk's dice makes another story
// of a seed.
var once = map[uint64]string{
	700133909: "reset after its promote had begun, and cancelled with prepare's answer: no old keys, so a leaked one stayed live",
	20559461:  "grace extended while the signatures to a question could not be read: it went on reading who may sign, for a question that was withdrawn",
}

func TestStoriesThatOnceWentElsewhereGoWhereTheModelGoes(t *testing.T) {
	t.Parallel()
	for seed, what := range once {
		logger := &transitions{}
		f := lockstep.New(t, func(r worker.WorkflowRegistry) { workflows.RegisterRotation(r) }, lockstep.Options{Logger: logger})
		w := newWalk(t, f, logger, seed)
		if _, err := w.story(); err != nil {
			t.Errorf("%s: REKEY_SEED=%d REKEY_STEPS=1: %v\n  %s", what, seed, err, strings.Join(w.path, "\n  "))
		}
	}
}

// The real workflow and the model get the same: outcomes of activities, messages in the same workflow task, time, workers
// that take over, continue-as-new, resets. After every workflow task both must be in the same place. REKEY_STEPS says how
// many workflow tasks, REKEY_SEED where to begin: a difference prints the seed of its story, and REKEY_SEED with REKEY_STEPS=1
// tells that story alone.
func TestTheWorkflowGoesWhereTheModelGoes(t *testing.T) {
	t.Parallel()
	steps, seed := int64(number(t, "REKEY_STEPS", 3000)), int64(number(t, "REKEY_SEED", 1))
	var done, next, stories atomic.Int64
	var all sync.WaitGroup
	var failed atomic.Bool
	seen := sights{count: map[string]int{}, arrows: map[string]bool{}}
	begin := time.Now()
	deadline, bounded := t.Deadline()
	over := func() bool { return bounded && time.Until(deadline) < 10*time.Second }
	for range 2 {
		all.Add(1)
		// New must run here: it may fail the test.
		logger := &transitions{}
		f := lockstep.New(t, func(r worker.WorkflowRegistry) { workflows.RegisterRotation(r) }, lockstep.Options{Logger: logger})
		go func() {
			defer all.Done()
			for done.Load() < steps && !failed.Load() && !over() {
				w := newWalk(t, f, logger, uint64(seed+next.Add(1)-1))
				n, err := w.story()
				seen.add(w.count, w.arrows)
				stories.Add(1)
				done.Add(int64(n))
				if err != nil {
					failed.Store(true)
					t.Errorf("REKEY_SEED=%d REKEY_STEPS=1: after %d steps in all: %v\n  %s", w.seed, done.Load(), err, strings.Join(w.path, "\n  "))
				}
			}
		}()
	}
	all.Wait()
	if n := done.Load(); n < steps && !t.Failed() {
		t.Errorf("the time was over after %d of %d steps, without a difference", n, steps)
	}
	fmt.Printf("walk: %d workflow tasks in %d stories, seeds from %d, %.0f a second\n%s\n", done.Load(), stories.Load(), seed, float64(done.Load())/time.Since(begin).Seconds(), &seen)
}

// walk is one story: a run of the real workflow beside a state of the model.
type walk struct {
	t    *testing.T
	rng  *rand.Rand
	seed uint64
	f    *lockstep.Frontend
	log  *transitions
	m    Model

	run  *lockstep.Run
	s    State
	at   string
	time clock

	propagation time.Duration
	maxGrace    time.Duration
	// cancelled: this run was asked to cancel. sent counts messages. looked is the activity whose input was looked at.
	cancelled bool
	sent      int
	looked    string
	// told are the keys that emergencies named to this rotation. unsettled: the failure says that it may have taken effect.
	told   Keys
	err    error
	places []place
	count  map[string]int
	arrows []string
	// suggested is the number of events from which on the run is to continue as new, 0 never. answered: an activity was
	// answered in this task.
	suggested int
	answered  bool
	unsettled bool
	tasks     int
	path      []string
}

func newWalk(t *testing.T, f *lockstep.Frontend, l *transitions, seed uint64) *walk {
	return &walk{t: t, rng: rand.New(rand.NewPCG(seed, 7)), seed: seed, f: f, log: l, count: map[string]int{}}
}

func (w *walk) chance(percent int) bool { return w.rng.IntN(100) < percent }

func pick[T any](w *walk, all ...T) T { return all[w.rng.IntN(len(all))] }

func (w *walk) say(format string, args ...any) { w.path = append(w.path, fmt.Sprintf(format, args...)) }

func (w *walk) now() time.Time { return w.run.Now() }

// These are of the policy that the walk gives every key, and of its provider.
const (
	graceLength  = time.Hour
	soakLength   = time.Hour
	firstRecheck = 15 * time.Minute
	horizon      = 5 * time.Minute
	lag          = time.Minute
	patience     = 24 * time.Hour
)

func (w *walk) key() rotation.Key {
	sh := w.s.shape()
	k := rotation.Key{
		Name: "demo", Provider: "cloud", Account: "demo@example.com", Tier: rotation.Production, Policy: rotation.Preset(rotation.Production),
		Stores: []rotation.Location{{Store: "first", Path: "demo"}, {Store: "second", Path: "demo"}}[:sh.Stores],
	}
	p := &k.Policy
	p.Grace, p.MaxGrace, p.Quiet, p.Soak = rotation.Duration(graceLength), rotation.Duration(w.maxGrace), 0, rotation.Duration(soakLength)
	p.Patience, p.Recheck, p.Approve = rotation.Duration(patience), rotation.Duration(firstRecheck), sh.Approve
	p.UnknownUse = []rotation.UnknownUse{rotation.UnknownTimer, rotation.UnknownApprove, rotation.UnknownNever}[sh.Use]
	if sh.Apart {
		k.ConflictsWith = []string{"other"}
	}
	return k
}

// story runs one rotation, and those that follow it, to an end; or for a while.
func (w *walk) story() (int, error) {
	w.s = Initial(w.rng.IntN(len(stories)))
	w.propagation, w.maxGrace = pick(w, 0, time.Minute), pick(w, graceLength, 100000*time.Hour)
	w.say("%s; propagation %s, max grace %s", w.s, w.propagation, w.maxGrace)
	w.say("shape %+v", *w.s.shape())
	if err := w.start(); err != nil {
		return w.tasks, err
	}
	w.remember(Initial(int(w.s.Shape)), Initial(int(w.s.Shape)).At().String())
	for n := 0; n < 150 && !w.s.Closed() && w.s.Round <= 2; n++ { // the model has no names for the keys of a third rotation
		if err := w.step(); err != nil {
			w.run.Terminate()
			return w.tasks, err
		}
	}
	if !w.run.Closed() {
		w.run.Terminate()
	}
	return w.tasks, nil
}

// start begins a rotation as the state of the model says.
func (w *walk) start() error {
	in := workflows.Input{Key: w.key(), Reason: rotation.Scheduled, By: "walk", Why: "walk"}
	if w.s.shape().Asked {
		in.Reason = rotation.Manual
	}
	w.told, w.places, w.answered = 0, nil, false
	if w.s.Emergency {
		w.told = set(Old)
		in.Reason = rotation.Emergency
		in.Emergencies = []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: "walk", Why: "it leaked", Leaked: []string{fingerprint(Old)}, RevokeFirst: w.s.First}}}
	}
	options := lockstep.StartOptions{ID: workflows.ID("demo")}
	if w.run != nil {
		options.At = w.now()
	}
	w.run = w.f.Start("RotateKey", options, in)
	w.time, w.cancelled = clock{late: w.time.late, maxGrace: w.maxGrace}, false
	w.at = w.s.At().String()
	w.suggest()
	w.s = w.settle(w.s, true)
	return w.task()
}

// suggest makes the run suggest continue-as-new after a while, perhaps.
func (w *walk) suggest() {
	w.suggested = 0
	if w.chance(30) {
		w.suggested = 12 + w.rng.IntN(60)
	}
	w.run.SuggestContinueAsNewAfter(w.suggested)
}

// settle is the model's, by the walk's clock. entered: the present step was just entered.
func (w *walk) settle(s State, entered bool) State {
	w.time.last = s
	if entered && s.passes() && !w.time.eyes.waits(s, true, w.now()) {
		s = w.m.decide(s)
	}
	return w.m.settle(s, func(s State, again bool) (Fact, bool) { return w.time.due(s, entered || again, w.now()) })
}

// task runs one workflow task, and those of the runs that continue it, and compares.
func (w *walk) task() error {
	for {
		w.log.from, w.log.to = w.log.from[:0], w.log.to[:0]
		w.tasks++
		leaves := w.answered && w.suggested > 0 && w.run.Len() >= w.suggested
		done, err := w.run.Task()
		if err != nil {
			return err
		}
		if done.Replayed {
			w.count["replayed"]++
		}
		w.say("      %s", done)
		for i := range w.log.to {
			if w.log.from[i] != w.at {
				return fmt.Errorf("the workflow goes on from %s, and was in %s", w.log.from[i], w.at)
			}
			w.at = w.log.to[i]
			w.arrows = append(w.arrows, w.log.from[i]+" -> "+w.at)
		}
		next := w.run.Continued()
		if next == nil {
			if leaves && !w.run.Closed() {
				return errors.New("the workflow does not continue as new, although it should")
			}
			break
		}
		var in workflows.Input
		if err := next.Input(&in); err != nil {
			return err
		}
		w.count[map[bool]string{true: "followed", false: "continued"}[in.Carry != nil]]++
		w.say("      continued as new: %v", map[bool]string{true: "another rotation", false: "the same one"}[in.Carry != nil])
		if in.Carry != nil {
			w.at = rotation.State{Step: w.s.shape().first().name(), Commitment: rotation.Looking}.String()
			if err := w.lookAtCarry(in); err != nil {
				return err
			}
		} else if in.Resume.At.String() != w.at {
			return fmt.Errorf("the workflow continues in %s, and was in %s", in.Resume.At, w.at)
		}
		w.run, w.cancelled, w.places, w.answered = next, false, nil, false
		w.suggest()
	}
	return w.compare()
}

// lookAtCarry looks at what a rotation gives to the one that follows it.
func (w *walk) lookAtCarry(in workflows.Input) error {
	switch {
	case !w.s.Follows:
		return fmt.Errorf("another rotation follows in the workflow, and none in the model, which is in %v", w.s)
	case len(in.Carry.Predecessors) != 1:
		return fmt.Errorf("the rotation that follows knows %d predecessors", len(in.Carry.Predecessors))
	case (in.Reason == rotation.Emergency) != w.s.Emergency:
		return fmt.Errorf("the rotation that follows is of reason %s", in.Reason)
	}
	return nil
}

// expected are the activities of the steps.
var expected = map[step]string{
	conflicts: activities.ConflictName, prepare: "Prepare", contain: "Revoke", create: "Create", adopt: "Adopt", store: "Store", verify: "Verify", promote: "Promote",
	recheck: "CheckHealth", guard: "Guard", disable: "Revoke", remove: "Revoke", confirm: "Confirm", retire: "Retire", enable: "Revoke", discard: "Discard",
}

// compare holds the workflow to the model.
func (w *walk) compare() error {
	if got, want := w.at, w.s.At().String(); got != want {
		return fmt.Errorf("the workflow is in %s, and the model in %v", got, w.s)
	}
	if w.s.Closed() != w.run.Closed() {
		return fmt.Errorf("the workflow is %s, and the model in %v", w.run.Status(), w.s)
	}
	if w.s.Closed() {
		var result rotation.Result
		if err := w.run.Result(&result); err != nil {
			return err
		}
		if result.Phase != w.s.At().Phase() || (result.Reason == rotation.Emergency) != w.s.Emergency {
			return fmt.Errorf("the result says %s, reason %s, and the model is in %v", result.Phase, result.Reason, w.s)
		}
		return nil
	}
	open := w.run.Pending()
	e := &w.time.eyes
	e.counting = false
	for _, a := range open.Activities {
		if a.Type == "Signers" && w.s.shape().FourEyes && (w.s.Step == grace || w.s.Step == guard || w.s.Step == approval) {
			e.counting = true
			if id := w.run.RunID + a.ID; id != w.looked {
				w.looked, e.recount, e.poll = id, false, time.Time{}
			}
			continue
		}
		if a.Type != expected[w.s.Step] {
			return fmt.Errorf("the workflow waits for %s, and the model is in %v", open, w.s)
		}
		if id := w.run.RunID + a.ID; id != w.looked {
			w.looked = id
			if err := w.lookAtInput(a); err != nil {
				return fmt.Errorf("%s: %w; the model is in %v", a.Type, err, w.s)
			}
		}
	}
	if len(open.Activities) > 1 || w.s.Step.works() && len(open.Activities)+len(open.Timers) == 0 && !w.run.Ready() {
		return fmt.Errorf("the workflow waits for %s, and the model is in %v", open, w.s)
	}
	w.waits()
	if overdue := w.time.expired(w.now()) && !(w.s.Step == awaitKey && w.s.Commitment == staged); !w.s.Step.works() && !overdue && !e.counting && len(open.Timers) == 0 {
		return fmt.Errorf("the workflow waits for %s, and the model is in %v", open, w.s)
	}
	return nil
}

// step lets something happen, in the model and in the workflow.
func (w *walk) step() error {
	open, cancelled := w.run.Pending(), w.run.Ready()
	var act *lockstep.Activity
	if len(open.Activities) > 0 {
		act = &open.Activities[0]
	}
	w.around(act != nil)
	switch {
	case w.s.shape().Operated && w.rng.IntN(200) == 0 && w.s.Round == 1:
		return w.restart()
	case len(w.places) > 0 && w.chance(2) && !w.time.eyes.counting:
		return w.reset()
	}
	switch {
	case w.chance(3):
		w.run.DropCache()
	case w.chance(3):
		w.run.OtherWorker()
	case w.chance(3):
		w.run.LoseCache()
	}

	// Time passes, and timers fire.
	timer, timed := w.run.NextTimer()
	fired := false
	switch after := w.now().Add(time.Duration(4+w.rng.IntN(8)) * time.Second); {
	case timed && (act == nil && w.chance(60) || w.chance(3)):
		if at := timer.FireAt; at.After(w.now()) { // after a reset it may be late
			w.run.Wait(at.Sub(w.now()))
		}
		w.run.Advance(w.now())
		fired = true
	default:
		fired = timed && !timer.FireAt.After(after)
		w.run.Advance(after)
	}
	happened := ""
	if fired {
		happened = "a timer fires: " + timer.Summary
	}
	w.s = w.time.pass(w.s, w.now())
	w.waits()
	s := w.s

	// The activity answers.
	answered := false
	if act == nil && cancelled && s.Step.works() {
		// Nobody had picked the activity up when the workflow cancelled it.
		s = w.cancel(s)
		answered, happened = true, happened+"cancelled"
	}
	if act != nil && strings.Contains(act.Summary, "until it succeeds") && w.chance(20) {
		w.run.NotPickedUp(act.ID)
	}
	polled := act == nil && !w.time.eyes.poll.IsZero()
	counting, counted := act != nil && act.Type == "Signers", false
	if counting && w.chance(80) {
		counted = w.counted(*act)
		answered, happened = true, happened+fmt.Sprintf("counted: %v", counted)
	} else if act != nil && !counting && w.chance(80) {
		var label string
		var err error
		if s, label, err = w.answer(s, *act); err != nil {
			return err
		}
		answered = true
		happened += label
	}
	if fired && !answered {
		if _, waits := w.m.step(s, Deadline); !s.Step.works() && waits && w.time.expired(w.now()) {
			s.Fact = Over
		}
	}

	// Messages arrive with it.
	messages := w.messages(s)
	if w.err != nil {
		return w.err
	}
	if happened == "" && len(messages) == 0 && !w.run.Ready() {
		w.s = s
		return nil
	}
	joined := false
	for _, one := range messages {
		w.send(one)
		after, ok := w.hear(s, one)
		happened += fmt.Sprintf("; %s%s", one, map[bool]string{true: "", false: " (refused)"}[ok])
		joined = joined || ok && after.Emergency && one.Input >= EmergencyOld
		s = after
	}
	if s.Step == guard && s.Fact == InUse && !w.time.graceUntil.Before(w.time.cap()) {
		s.Fact = Asked // a message has made use of what was left
	}
	if s.Step == adopt && s.Fact == Unavailable && w.time.expired(w.now()) {
		s.Fact = Over
	}
	polling := s.Step.works() && act == nil && !answered && !polled && (s.Request || s.Follow || joined)
	// Nor is what the signatures were counted before.
	polling = polling || s.Step.works() && counting && answered && (s.Follow || s.Request && s.Commitment.name().CanRollBack())
	if polling {
		// What is waited for is not asked for any more.
		s, _ = w.m.answer(s, AnswerUnavailable)
	}
	w.count["messages"] += len(messages)
	if len(messages) > 0 && answered {
		w.count["messages with an outcome"]++
	}
	w.say("%s  %s", w.now().Format("02 15:04:05"), happened)
	if counting && answered {
		s = w.afterCount(s, counted)
	}
	before := w.s
	if s.Step == verify && s.Fact == NewRefused && s.Commitment == reversing && s.Disables.has(s.Back) {
		w.count[fmt.Sprintf("refused when enabled %d times", s.Enabled)]++
	}
	w.s = w.settle(s, counting && answered || polled)
	w.s.Faults = 0
	w.say("   -> %v", w.s)
	if w.s.Round > 2 {
		return nil
	}
	run, was := w.run, w.at
	w.answered = answered
	if err := w.task(); err != nil {
		return err
	}
	if run == w.run && !slices.ContainsFunc(messages, func(m *message) bool { return m.Update }) {
		w.remember(before, was)
	}
	return nil
}

// waits notes when the present wait for a person ends: the list of rotations says so, and what it says of a key that is
// checked may still be about the question before.
func (w *walk) waits() {
	var listed time.Time
	_, _ = w.run.SearchAttribute("RekeyDeadline", &listed)
	c := &w.time
	switch w.s.Step {
	case awaitKey, approval, awaitRevocation, awaitContainment:
		c.deadline, c.question = listed, time.Time{}
		if w.s.Step != awaitKey {
			c.question = listed
		}
	case adopt:
		if c.deadline = listed; listed.Equal(c.question) {
			c.deadline = time.Time{}
		}
	default:
		c.deadline, c.question = time.Time{}, listed
	}
}

// around is what happens in the world meanwhile, without the workflow.
func (w *walk) around(running bool) {
	var may []Input
	if running {
		for range 3 {
			may = append(may, RequestDone, RequestDone, RequestDone, RequestDone)
		}
		may = append(may, RequestLate, MintLost)
	}
	may = append(may, LateMint, LateDisable, LateDelete, PersonRevokes, PersonRevokes, SomebodyMends)
	if w.chance(4) {
		may = append(may, SomebodyKillsNew, SomebodyKillsOld)
	}
	if w.s.Commitment == reversing && w.s.Disables != 0 {
		// Was it an abandoned request to disable it?
		may = append(may, SomebodyKillsOld, SomebodyKillsOld, SomebodyKillsOld, SomebodyKillsOld, SomebodyKillsOld)
	}
	for range w.rng.IntN(8) {
		in := pick(w, may...)
		w.s.Faults = 0
		if next, ok := w.m.Step(w.s, in); ok && w.s.Fact == Nothing {
			w.s = next
			w.time.around(in, w.now())
			w.say("   (%s)", in)
		}
	}
}

// order puts messages in the order in which the workflow takes them: updates first, then a cancel, then signals by kind.
func (w *walk) order(messages []*message) {
	rank := func(m *message) int {
		switch {
		case m.Update:
			return 0
		case m.cancel:
			return 1
		}
		return 2 + slices.Index(rotation.DecisionKinds(), m.kind)
	}
	slices.SortStableFunc(messages, func(a, b *message) int { return rank(a) - rank(b) })
}
