UPDATE waldelta.canary SET beat = beat + 1, at = now() WHERE id = 1
