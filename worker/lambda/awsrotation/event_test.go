package awsrotation_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/worker/lambda/awsrotation"
)

const (
	arn      = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/openai-AbCdEf"
	aToken   = "0f8fad5b-d9cb-469f-a165-70867728950e"
	anEvent  = `{"Step":"createSecret","SecretId":"` + arn + `","ClientRequestToken":"` + aToken + `","RotationToken":"5e9d2b8a-hunter2"}`
	noTokens = `{"Step":"createSecret","SecretId":"` + arn + `"}`
)

func TestAnEventOfAWSIsRead(t *testing.T) {
	for _, step := range awsrotation.Steps() {
		got, err := awsrotation.ParseEvent([]byte(strings.Replace(anEvent, "createSecret", string(step), 1)))
		if err != nil {
			t.Fatal(err)
		}
		if want := (awsrotation.Event{Step: step, SecretID: arn, Token: aToken}); got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
}

func TestWhatIsNoEventIsRefusedAndNotQuoted(t *testing.T) {
	for sentence, c := range map[string]struct{ raw, want string }{
		"nothing":                   {"", "not a JSON object"},
		"no JSON":                   {"hunter2", "not a JSON object"},
		"a list":                    {"[" + anEvent + "]", "not a JSON object"},
		"null":                      {"null", "needs Step"},
		"two events":                {anEvent + anEvent, "something follows"},
		"no token":                  {noTokens, "needs Step, SecretId and ClientRequestToken"},
		"a short token":             {strings.Replace(anEvent, aToken, "hunter2", 1), "32 to 64 characters"},
		"a token with a line break": {strings.Replace(anEvent, aToken, strings.Repeat(`a\n`, 40), 1), "32 to 64 characters"},
		"an unknown step":           {strings.Replace(anEvent, "createSecret", "deleteSecret", 1), `there is no step "deleteSecret"`},
		"a step in another case":    {strings.Replace(anEvent, "createSecret", "CREATESECRET", 1), "there is no step"},
		"a secret that is a list":   {strings.Replace(anEvent, `"`+arn+`"`, `["x"]`, 1), "not a JSON object"},
		"a secret with a quote":     {strings.Replace(anEvent, arn, `a'b`, 1), "neither an ARN nor a name"},
		"an empty secret":           {strings.Replace(anEvent, arn, "", 1), "neither an ARN nor a name"},
		"an endless secret":         {strings.Replace(anEvent, arn, strings.Repeat("a", 3000), 1), "neither an ARN nor a name"},
		"an endless event":          {strings.Repeat(" ", 20_000) + anEvent, "larger than"},
	} {
		_, err := awsrotation.ParseEvent([]byte(c.raw))
		if !errors.Is(err, awsrotation.ErrEvent) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", sentence, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: quoted: %v", sentence, err)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(anEvent))
	f.Add([]byte(noTokens))
	f.Add([]byte(`{"Step":"\u0000","secretid":1e999}`))
	f.Add([]byte("[[[["))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := awsrotation.ParseEvent(raw)
		if err != nil {
			if !errors.Is(err, awsrotation.ErrEvent) || len(err.Error()) > 400 || e != (awsrotation.Event{}) {
				t.Fatalf("refused as %+v, %v", e, err)
			}
			return
		}
		if !slices.Contains(awsrotation.Steps(), e.Step) || len(e.Token) < 32 || len(e.Token) > 64 || e.SecretID == "" || len(e.SecretID) > 2048 {
			t.Fatalf("taken: %+v", e)
		}
		// What was taken says the same when AWS sends it again.
		again, err := json.Marshal(map[string]string{"Step": string(e.Step), "SecretId": e.SecretID, "ClientRequestToken": e.Token})
		if err != nil {
			t.Fatal(err)
		}
		if second, err := awsrotation.ParseEvent(again); err != nil || second != e {
			t.Fatalf("%+v became %+v, %v", e, second, err)
		}
	})
}
