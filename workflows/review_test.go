package workflows_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation"
)

func TestADisableWhoseReplyIsLostIsUndoneByARollBack(t *testing.T) {
	r := newRig(t, bothStores())
	r.whenStarted("Revoke", func() {
		r.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "DisableServiceAccountKey", Times: 7, Kind: simcloud.LoseReply})
	})
	// By then the step has been tried in vain, and the key is disabled all the same.
	r.after(2*day+25*time.Second, func() { r.signal(rotation.RollBack, rotation.Message{}) })
	r.unchanged(r.run())
}

func TestARollBackThatWasSentBeforeTheTimerFiredWins(t *testing.T) {
	r := newRig(t, bothStores())
	// The soak ends at the very moment at which the signal is there: Temporal delivers both in one workflow task.
	r.after(2*day+59*time.Minute, func() {
		s := r.status()
		if s.Phase != rotation.Revoke {
			t.Errorf("phase %s, want revoke", s.Phase)
		}
		r.env.SignalWorkflowSkippingWorkflowTask(string(rotation.RollBack), rotation.Message{By: "operator", Why: "test"})
	})
	r.unchanged(r.run())
}

func TestAnExtensionWhileTheGuardLooksIsHonoured(t *testing.T) {
	r := newRig(t, bothStores().policy(quick))
	begin := r.now()
	r.whenStarted("Guard", func() {
		r.signal(rotation.ExtendGrace, rotation.Message{By: "o", Why: "w", For: rotation.Duration(day)})
	})
	res := r.run()
	r.replaced(res)
	if took := res.EndedAt.Sub(begin); took < 3*day {
		t.Errorf("it took %s: the extension was lost", took)
	}
}

func TestAnApprovalOfOneRevokeDoesNotApproveTheOther(t *testing.T) {
	r := newRig(t, bothStores().policy("approve: true"))
	r.after(3*day, func() { r.signal(rotation.Approve, rotation.Message{}) })
	// During the soak somebody wants the old key back; the new one is then the one to revoke.
	r.after(3*day+30*time.Minute, func() { r.signal(rotation.RollBack, rotation.Message{}) })
	asked := false
	r.after(6*day, func() {
		asked = r.status().Details != "" && strings.Contains(r.status().Details, "A person decides")
		r.signal(rotation.Approve, rotation.Message{})
	})
	r.unchanged(r.run())
	if !asked {
		t.Error("nobody was asked about the new key")
	}
}

func TestWhileAStoreIsForbiddenTheHistoryStaysShort(t *testing.T) {
	r := newRig(t, bothStores())
	r.whenStarted("Create", func() {
		r.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Method: "UpdateSecret", Kind: simcloud.Refuse, Code: 403})
	})
	r.after(day, func() {
		if n := strings.Count(strings.Join(r.started, " "), "Create"); n > 150 {
			t.Errorf("%d attempts in a day", n)
		}
		if s := r.status(); !strings.Contains(s.Details, "tries again by itself") || strings.Contains(s.Details, "do nothing") {
			t.Errorf("the details mislead:\n%s", s.Details)
		}
		r.signal(rotation.RollBack, rotation.Message{})
	})
	res := r.run()
	if res.Phase != rotation.RolledBack || len(r.Cloud.LiveKeys()) != 1 {
		t.Errorf("%s with keys %v", res.Phase, r.Cloud.LiveKeys())
	}
}
