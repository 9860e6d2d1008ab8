package main

// partDRotate are the checks of the issuers and the process that holds their
// keys.
var partDRotate = []check{
	{"signer", "templates refuse what they are not for; the signing process killed again and again while devices enrol: each has one certificate, all are journaled", pkiTests("TestTemplates|TestDeviceTemplate|TestJournal|TestSocket|TestSignerKilled|TestSignerAway", "./pki/signer", "./cmd/wardnet")},
	{"rotation", "rotation under 50 enrolments a second: no failed enrolment, no failed handshake; CRLs of both generations by openssl; hub pins first", pkiTests("TestRotation|TestHubRotation|TestKilledInDistrust", "./pki")},
	{"drill-208", "the devices issuer's key is stolen: 208 simulated edges come to new certificates by themselves", pkiTests("TestCompromiseDrill", "./labs/sim")},
	{"drill-lab", "the same in the lab, while packets pass", labRun("distrust")},
	{"ceremony", "the root's key elsewhere from the first day: csr, sign, import", pkiTests("TestRootElsewhere|TestScript/ceremony", "./pki/signer", "./cmd/wardnet")},
}
