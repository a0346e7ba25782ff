package workflows_test

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// moment is a rotation that is looked at now and then.
type moment struct {
	name  string
	setup setup
	play  func(*album)
}

// during looks while an activity runs for the first time.
func (a *album) during(activity, name string) { a.whenStarted(activity, func() { a.see(name) }) }

// at looks when the clock has come that far, and then does something.
func (a *album) at(d time.Duration, name string, then ...func()) {
	a.after(d, func() {
		a.see(name)
		for _, f := range then {
			f()
		}
	})
}

func (a *album) send(kind rotation.DecisionKind) func() {
	return func() { a.signal(kind, rotation.DecisionMessage{}) }
}

// finish runs the rotation to its end and looks at it.
func (a *album) finish(name string) rotation.Result {
	a.Helper()
	res := a.run()
	a.see(name)
	return res
}

func (a *album) revokeOld() {
	if err := a.OpenAI.DeleteKey(a.oldID); err != nil {
		a.Error(err)
	}
	a.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
}

// used is a provider that tells when a key was last used, which none of the real ones does yet.
type used struct {
	provider.Provider
	last func() time.Time
}

func (u used) Capabilities() provider.Capabilities {
	c := u.Provider.Capabilities()
	c.Usage = true
	return c
}

func (u used) Usage(context.Context, string, string) (provider.Usage, error) {
	return provider.Usage{LastUsed: u.last()}, nil
}

func (a *album) lastUsed(f func() time.Time) {
	a.acts.Providers["google"] = used{a.acts.Providers["google"], f}
}

func moments() []moment {
	return slices.Concat(straightMoments(), backMoments(), troubledMoments(), questionMoments(), emergencyMoments())
}

// straightMoments are those of rotations that end well.
func straightMoments() []moment {
	return []moment{
		{"a key that the provider's API makes and revokes", bothStores(), func(a *album) {
			for _, step := range []string{"Prepare", "Create", "Store", "Verify", "Promote", "Guard", "Confirm", "Retire"} {
				a.during(step, "google-"+strings.ToLower(step))
			}
			a.at(day, "google-grace")
			a.at(2*day+30*time.Minute, "google-revoke")
			a.finish("google-completed")
		}},
		{"a key that a person makes and revokes", manualKey().policy("approve: true"), func(a *album) {
			for _, step := range []string{"Prepare", "Adopt", "Verify", "Promote", "Guard", "Confirm", "Retire"} {
				a.during(step, "openai-"+strings.ToLower(step))
			}
			a.at(time.Hour, "openai-awaiting-key", func() { a.supply() })
			a.at(day, "openai-grace")
			a.at(3*day, "openai-awaiting-approval", a.send(rotation.Approve))
			a.at(4*day, "openai-awaiting-revocation", a.revokeOld)
			a.finish("openai-completed")
		}},
		{"a key that is not due", bothStores(), func(a *album) {
			a.in.Reason = rotation.Scheduled
			a.finish("google-not-due")
		}},
		{"a grace period that was extended, up to its cap", bothStores().policy(quick), func(a *album) {
			a.after(day, func() {
				a.signal(rotation.ExtendGrace, rotation.DecisionMessage{By: "o", Why: "a slow application", For: rotation.Duration(day)})
				a.after(time.Minute, func() { a.see("google-grace-extended") })
			})
			a.after(day+time.Hour, func() {
				a.signal(rotation.ExtendGrace, rotation.DecisionMessage{By: "o", Why: "a slower one", For: rotation.Duration(90 * day)})
				a.after(time.Minute, func() { a.see("google-grace-at-cap") })
			})
			a.run()
		}},
	}
}

// backMoments are those of rotations that roll back.
func backMoments() []moment {
	return []moment{
		{"a roll-back before the promote", bothStores(), func(a *album) {
			a.whenStarted("Store", a.send(rotation.RollBack))
			a.during("Discard", "google-rolling-back")
			a.finish("google-rolled-back")
		}},
		{"a roll-back in grace", bothStores(), func(a *album) {
			a.after(day, a.send(rotation.RollBack))
			a.whenStarted("Verify", func() {})
			a.whenStarted("Promote", func() {})
			for _, step := range []string{"Verify", "Promote", "Guard", "Confirm", "Retire"} {
				a.during(step, "google-reverse-"+strings.ToLower(step))
			}
			a.at(2*day, "google-reverse-grace")
			a.at(3*day+30*time.Minute, "google-reverse-revoke")
			a.finish("google-reverse-rolled-back")
		}},
		{"a roll-back in grace of a key that a person revokes", manualKey().policy("approve: true"), func(a *album) {
			var id string
			a.after(time.Hour, func() { id = a.supply() })
			a.after(day, a.send(rotation.RollBack))
			a.at(4*day, "openai-reverse-awaiting-approval", a.send(rotation.Approve))
			a.at(5*day, "openai-reverse-awaiting-revocation", func() {
				_ = a.OpenAI.DeleteKey(id)
				a.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
			})
			a.finish("openai-reverse-rolled-back")
		}},
		{"nobody supplies a key", manualKey(), func(a *album) { a.finish("openai-rolled-back-deadline") }},
		{"a supplied key, and then a roll-back", manualKey(), func(a *album) {
			a.whenStarted("Verify", a.send(rotation.RollBack))
			a.after(time.Hour, func() { a.supply() })
			a.finish("openai-rolled-back-supplied")
		}},
		{"a new key that the provider refuses", bothStores(), func(a *album) {
			a.Cloud.SetTiming(simcloud.Timing{Propagation: 100 * day})
			a.finish("google-rolled-back-refused")
		}},
	}
}

// troubledMoments are those in which something is in the way.
func troubledMoments() []moment {
	return []moment{
		{"a store that is down", bothStores(), func(a *album) {
			heal := a.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Kind: simcloud.Refuse, Code: 503})
			a.at(10*time.Second, "google-stalled")
			a.at(time.Hour, "google-stalled-long")
			a.at(8*day, "google-stalled-overdue", heal)
			a.run()
		}},
		{"a mint that fails again and again", bothStores(), func(a *album) {
			heal := a.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.Refuse, Code: 403})
			a.at(2*time.Hour, "google-create-stalled", heal)
			a.run()
		}},
		{"a promote that fails on the second store", bothStores(), func(a *album) {
			var heal func()
			a.whenStarted("Promote", func() {
				heal = a.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Method: "AddSecretVersion", Target: "ci-latest", Kind: simcloud.Refuse, Code: 503})
			})
			a.at(2*time.Hour, "google-promote-stalled", func() { heal() })
			a.run()
		}},
		{"a revocation that nobody makes", manualKey(), func(a *album) {
			a.after(time.Hour, func() { a.supply() })
			a.at(30*day, "openai-awaiting-revocation-overdue", a.revokeOld)
			a.run()
		}},
		{"answers that cannot be used while a key is waited for", manualKey(), func(a *album) {
			a.after(time.Hour, func() { a.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: "99"}) })
			a.at(2*time.Hour, "openai-awaiting-key-no-version", func() { a.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: "1"}) })
			a.at(3*time.Hour, "openai-awaiting-key-old-version", func() {
				_, v := a.OpenAI.CreateKey("proj_other", "x")
				n, err := a.SM.AddVersion("gpt", v)
				if err != nil {
					a.Error(err)
				}
				a.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: itoa(n)})
			})
			a.at(4*time.Hour, "openai-awaiting-key-other-project", func() { a.env.SignalWorkflow(string(rotation.KeySupplied), []int{1, 2, 3}) })
			a.at(5*time.Hour, "openai-awaiting-key-unreadable", func() { a.signal(rotation.KeyRevoked, rotation.DecisionMessage{}) })
			a.at(6*time.Hour, "openai-awaiting-key-wrong-phase", a.send(rotation.RollBack))
			a.finish("openai-rolled-back-left")
		}},
		{"a long note full of markup", manualKey(), func(a *album) {
			a.after(time.Hour, func() {
				a.signal(rotation.AddNote, rotation.DecisionMessage{By: "o", Why: strings.Repeat("<b>[look](http://x)</b> ", 20)})
				a.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: strings.Repeat("<9> ", 300)})
			})
			a.at(2*time.Hour, "openai-awaiting-key-long-note", a.send(rotation.RollBack))
			a.run()
		}},
		{"a key in a message", manualKey(), func(a *album) {
			_, v := a.OpenAI.CreateKey(scenario.OpenAIProject("gpt"), "pasted")
			a.after(time.Hour, func() { a.env.SignalWorkflow(string(rotation.KeySupplied), v.Reveal()) })
			a.at(2*time.Hour, "openai-awaiting-key-exposed", a.send(rotation.RollBack))
			a.finish("openai-rolled-back-exposed")
		}},
		{"a revocation that is told too early", manualKey(), func(a *album) {
			a.after(time.Hour, func() { a.supply() })
			a.after(day, a.send(rotation.KeyRevoked))
			a.at(day+time.Hour, "openai-grace-early")
			a.after(4*day, a.revokeOld)
			a.run()
		}},
		{"a revocation that is claimed and did not happen", manualKey(), func(a *album) {
			a.after(time.Hour, func() { a.supply() })
			a.after(3*day, a.send(rotation.KeyRevoked))
			a.at(3*day+30*time.Second, "openai-confirm-stalled")
			a.at(4*day, "openai-awaiting-revocation-not-revoked", a.revokeOld)
			a.run()
		}},
	}
}

// questionMoments are the questions that a person decides.
func questionMoments() []moment {
	created := bothStores()
	created.opts.Mode = "create"
	claim := func(a *album, store, path string) {
		s := a.acts.Stores[store]
		snap, err := s.Load(context.Background(), path)
		if err == nil {
			snap.Install = "other1"
			_, err = s.Save(context.Background(), path, snap)
		}
		if err != nil {
			a.Error(err)
		}
	}
	return []moment{
		{"another installation keeps the store", bothStores(), func(a *album) {
			claim(a, scenario.Alias, "ci")
			a.at(time.Hour, "question-foreign-claim", a.send(rotation.Reject))
			a.finish("question-foreign-claim-rejected")
		}},
		{"another installation takes the store while a key is waited for", manualKey(), func(a *album) {
			a.after(time.Hour, func() {
				claim(a, scenario.Alias, "gpt")
				a.supply()
			})
			a.at(2*time.Hour, "question-foreign-claim-supplied", a.send(rotation.Reject))
			a.run()
		}},
		{"keys that nobody can prove", created, func(a *album) {
			a.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "CreateServiceAccountKey", Times: 1, Kind: simcloud.LoseReply})
			a.at(time.Hour, "question-unproven-keys", a.send(rotation.Approve))
			a.run()
		}},
		{"the policy wants an approval", bothStores().policy("approve: true", "quiet: 0s"), func(a *album) {
			a.lastUsed(func() time.Time { return time.Time{} })
			a.at(3*day, "question-revoke-policy", a.send(rotation.Approve))
			a.run()
		}},
		{"nobody knows whether the old key is in use", bothStores().policy("unknown_use: approve"), func(a *album) {
			a.at(3*day, "question-use-unknown", a.send(rotation.Approve))
			a.run()
		}},
		{"nobody knows, and the policy never goes on by itself", bothStores().policy("unknown_use: never"), func(a *album) {
			a.at(3*day, "question-use-unknown-never", a.send(rotation.Approve))
			a.run()
		}},
		{"the old key is in use to the end", bothStores().policy("max_grace: 4d", "quiet: 1h"), func(a *album) {
			a.lastUsed(func() time.Time { return a.now() })
			a.at(2*day+10*time.Minute, "google-grace-in-use")
			a.at(5*day, "question-key-in-use", a.send(rotation.Approve))
			a.run()
		}},
		{"both keys die in grace", manualKey(), func(a *album) {
			var id string
			a.after(time.Hour, func() { id = a.supply() })
			a.after(2*time.Hour, func() {
				a.rules.MayDie = []string{id, a.oldID}
				_, _ = a.OpenAI.DeleteKey(id), a.OpenAI.DeleteKey(a.oldID)
			})
			a.at(20*time.Hour, "question-keys-refused", a.send(rotation.Approve))
			a.after(21*time.Hour, func() { a.env.CancelWorkflow() })
			// Nobody makes a key work again, so it would never end.
			a.at(22*time.Hour, "question-no-way-back-both-dead", func() { a.env.SetContinueAsNewSuggested(true) }, a.send(rotation.Approve))
			a.env.ExecuteWorkflow(workflows.RotateKey, a.in)
		}},
		{"the wrong key was revoked", manualKey(), func(a *album) {
			var id string
			a.after(time.Hour, func() { id = a.supply() })
			a.after(3*day, func() {
				a.rules.MayDie = []string{id}
				_ = a.OpenAI.DeleteKey(id)
				a.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
			})
			a.at(4*day, "question-new-refused", a.send(rotation.Reject))
			a.after(7*day, a.send(rotation.KeyRevoked))
			a.finish("openai-rolled-back-wrong-key-revoked")
		}},
		{"a roll-back to a key that is dead", manualKey(), func(a *album) {
			a.after(time.Hour, func() { a.supply() })
			a.after(2*time.Hour, func() {
				a.rules.MayDie = []string{a.oldID}
				_ = a.OpenAI.DeleteKey(a.oldID)
				a.signal(rotation.RollBack, rotation.DecisionMessage{})
			})
			a.at(day, "question-no-way-back", a.send(rotation.Approve))
			a.after(5*day, a.send(rotation.KeyRevoked))
			a.run()
		}},
		{"a key that cannot be revoked", bothStores().policy(quick), func(a *album) {
			heal := a.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "DeleteServiceAccountKey", Kind: simcloud.Refuse, Code: 400})
			a.at(3*day, "question-not-revoked", heal, a.send(rotation.Approve))
			a.run()
		}},
		{"old versions that cannot be cleared", bothStores().policy(quick), func(a *album) {
			heal := a.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Method: "DestroySecretVersion", Kind: simcloud.Refuse, Code: 400})
			a.at(3*day, "question-not-cleared", heal, a.send(rotation.Approve))
			a.run()
		}},
	}
}

// emergencyMoments are those of emergencies.
func emergencyMoments() []moment {
	first := []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: "o", Why: "w", RevokeFirst: true}}}
	return []moment{
		{"an emergency", manualKey(), func(a *album) {
			a.in.Reason = rotation.Emergency
			a.at(time.Hour, "emergency-awaiting-key", func() { a.supply() })
			a.at(2*time.Hour, "emergency-awaiting-revocation", a.revokeOld)
			a.finish("emergency-completed")
		}},
		{"an emergency that revokes first, by hand", manualKey(), func(a *album) {
			a.rules.MayDie = []string{a.oldID}
			a.in.Reason, a.in.Emergencies = rotation.Emergency, first
			a.at(time.Hour, "emergency-revoke-first-awaiting-revocation", a.revokeOld)
			a.at(2*time.Hour, "emergency-revoke-first-awaiting-key", func() { a.supply() })
			a.run()
		}},
		{"an emergency that revokes first, by API", bothStores(), func(a *album) {
			a.rules.MayDie = []string{a.oldID}
			a.in.Reason, a.in.Emergencies = rotation.Emergency, first
			heal := a.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.Refuse, Code: 400})
			a.during("Revoke", "emergency-revoke-first-revoke")
			a.at(time.Hour, "question-cannot-go-on", heal, a.send(rotation.Approve))
			a.run()
		}},
		{"an emergency with a grace period", bothStores(), func(a *album) {
			a.in.Reason = rotation.Emergency
			a.in.Emergencies = []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: "o", Why: "w", For: rotation.Duration(2 * time.Hour)}}}
			a.at(time.Hour, "emergency-grace")
			a.run()
		}},
		{"an emergency that rolls back", bothStores(), func(a *album) {
			a.in.Reason = rotation.Emergency
			a.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.Refuse, Code: 400})
			a.finish("emergency-rolled-back")
		}},
	}
}
