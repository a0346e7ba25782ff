package awsrotation

import (
	"testing"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation"
)

// Whichever of its writes to AWS is lost, before it took effect or after, a rotation ends with one new key, published,
// and nothing left over. AWS is the first store here, so that claim, staging and promote all rest on it.
func TestARotationSurvivesTheLossOfItsWritesToAWS(t *testing.T) {
	const put, move, record = "PutSecretValue", "UpdateSecretVersionStage", "rekey/"
	for sentence, c := range map[string]struct {
		method, prefix string
		skip           int
	}{
		"the claim":                          {move, record, 0},
		"the new value":                      {put, "", 1}, // after the check of what is permitted
		"the record of the new value":        {put, record, 1},
		"that record's label":                {move, record, 1},
		"the note of the promote":            {move, record, 3},
		"AWSCURRENT":                         {move, "", 2}, // after that check, and the label that keeps the old version
		"the record without the old version": {move, record, 4},
	} {
		for kind, how := range map[simcloud.FaultKind]string{simcloud.LoseReply: "the answer", simcloud.DropBefore: "the request"} {
			t.Run(sentence+", "+how, func(t *testing.T) {
				t.Parallel()
				w := newEnv(t, due...)
				reached := make(chan struct{})
				w.Cloud.Inject(simcloud.Fault{Service: simcloud.AWSSecretsService, Method: c.method, Target: ":" + c.prefix + "prod/ci-", Skip: c.skip, Times: 1, Kind: kind, Reached: reached})
				w.must(w.all("ci", w.rotate("ci")))
				if r := w.ended("ci"); r.Phase != rotation.Completed || len(r.FollowUps) != 0 {
					t.Fatalf("it ended as %+v", r)
				}
				select {
				case <-reached:
				default:
					t.Fatal("the rotation makes fewer writes, so that nothing was lost")
				}
				w.invariants()
				w.over("ci")
				live := w.Cloud.LiveKeys()
				if _, published := live[w.Cloud.PublishedKeys()[w.arn["ci"]]]; len(live) != 2 || !published {
					t.Errorf("live keys: %v, want the one that applications read, and the OpenAI key", live)
				}
			})
		}
	}
}
