package auth

import "time"

// SetClock has another clock say how old what an issuer said is.
func SetClock(a *Authenticator, now func() time.Time) { a.tokens.keys.now = now }
