package secret_test

import (
	"encoding/json"
	"fmt"

	"github.com/rekeyhq/rekey/secret"
)

// However a Value is printed, its fingerprint appears.
func ExampleValue() {
	v := secret.FromString("an invented key")
	fmt.Println(v)
	fmt.Printf("%s %q %x %#v\n", v, v, v, v)
	fmt.Printf("%+v\n", struct{ Key secret.Value }{v})
	fmt.Println(v.Fingerprint())
	// Output:
	// secret(e9829bb5740b)
	// secret(e9829bb5740b) secret(e9829bb5740b) secret(e9829bb5740b) secret(e9829bb5740b)
	// {Key:secret(e9829bb5740b)}
	// e9829bb5740b
}

// No encoder gets the plaintext, so it cannot slip into a history, a log or an answer.
func ExampleErrEncode() {
	_, err := json.Marshal(map[string]secret.Value{"key": secret.FromString("an invented key")})
	fmt.Println(err)
	// Output:
	// json: error calling MarshalJSON for type secret.Value: secret secret(e9829bb5740b) refuses to be encoded: a secret leaves the worker only into a store
}

// Values are compared in constant time; == does not compile.
func ExampleValue_Equal() {
	v := secret.FromString("an invented key")
	fmt.Println(v.Equal(secret.New([]byte("an invented key"))), v.Equal(secret.Value{}))
	// Output: true false
}
