package activities_test

import (
	"slices"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scene"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

func TestAPromoteThatWasCutOffConvergesAndTheDutiesComeFirst(t *testing.T) {
	for sentence, cut := range map[string]simcloud.Fault{
		"before the second store":                  {Method: "AddSecretVersion", Kind: simcloud.DropBefore},
		"in the second store, without an answer":   {Method: "AddSecretVersion", Kind: simcloud.LoseReply},
		"after the value, before the record of it": {Method: "UpdateSecret", Kind: simcloud.DropBefore, Skip: 2},
		"after the record, without an answer":      {Method: "UpdateSecret", Kind: simcloud.LoseReply, Skip: 2},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t, google(scene.Alias, scene.Latest))
			p, err := r.prepare(r1, rotation.Manual)
			if err != nil {
				t.Fatal(err)
			}
			n := r.store(r1, r.create(r1))
			cut.Service, cut.Target, cut.Times = simcloud.SecretManagerService, "secrets/ci-latest", 1
			if cut.Method == "AddSecretVersion" {
				cut.Except = "pending"
			}
			r.Cloud.Inject(cut)
			_, err = r.tryPromote(r1, n, p.Old...)
			_ = r.fails(err, fault.Unavailable, "")
			for i := range r.key.Stores {
				if d := r.record(i).Duties; len(d) != 1 || d[0].KeyID != r.oldID || d[0].Rotation != r1 {
					t.Errorf("the duties in store %d are not written: %+v", i, d)
				}
			}
			out, err := r.tryPromote(r1, n, p.Old...)
			if err != nil || len(out.Lagging) > 0 {
				t.Fatalf("%+v, %v", out, err)
			}
			for path, id := range r.Cloud.PublishedKeys() {
				if id != n.KeyID {
					t.Errorf("applications read %s at %s", id, path)
				}
			}
			if err := r.revoke(r1, activities.DeleteKey, p.Old...); err != nil {
				t.Error(err)
			}
			r.retire(r1, p.Old...)
			r.keys(n.KeyID)
		})
	}
}

func TestAPromoteSaysWhoseReadersLag(t *testing.T) {
	r := newRig(t, google(scene.Alias))
	p, err := r.prepare(r1, rotation.Manual)
	if err != nil {
		t.Fatal(err)
	}
	n := r.create(r1)
	r.Cloud.SetTiming(simcloud.Timing{AliasLag: time.Hour})
	out, err := r.tryPromote(r1, n, p.Old...)
	if err != nil || !slices.Equal(out.Lagging, []string{"gsm:ci"}) {
		t.Fatalf("%+v, %v", out, err)
	}
	_ = r.fails(r.revoke(r1, activities.DeleteKey, p.Old...), fault.Rejected, activities.StillStaged)
	r.Advance(time.Hour)
	if out, err = r.tryPromote(r1, n, p.Old...); err != nil || len(out.Lagging) > 0 {
		t.Fatalf("an hour later: %+v, %v", out, err)
	}
}
