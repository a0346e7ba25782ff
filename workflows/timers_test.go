package workflows_test

import (
	"testing"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

func TestAMessageThatEndsAWaitLeavesNoTimerBehind(t *testing.T) {
	t.Parallel()
	r := newFixture(t, manualKey())
	open, most, all := map[string]bool{}, 0, 0
	r.env.SetOnTimerScheduledListener(func(id string, _ time.Duration) {
		open[id] = true
		all++
	})
	over := func(id string) { delete(open, id) }
	r.env.SetOnTimerFiredListener(over)
	r.env.SetOnTimerCanceledListener(over)
	counts := func() { most = max(most, len(open)) }
	longer := rotation.DecisionMessage{By: "ana", Why: "later", For: rotation.Duration(time.Hour)}
	for n := range 5 {
		r.after(time.Duration(n+1)*time.Hour, func() { r.signal(rotation.ExtendDeadline, longer) })
		r.after(time.Duration(n+1)*time.Hour+time.Minute, counts)
	}
	r.after(6*time.Hour, func() { r.supply() })
	for n := range 5 {
		r.after(time.Duration(n+7)*time.Hour, func() { r.signal(rotation.ExtendGrace, longer) })
		r.after(time.Duration(n+7)*time.Hour+time.Minute, counts)
	}
	r.after(4*day, func() {
		_ = r.OpenAI.DeleteKey(r.oldID)
		r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
	})
	r.replaced(r.run())
	if most != 1 || all < 10 {
		t.Errorf("%d timers at once, of %d", most, all)
	}
}
