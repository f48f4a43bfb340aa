"""Pictures and sound as bytes: PNG and WAV."""
