"""How the one loop scales: simulated groups by the thousand on a virtual clock, and real ranks that sleep."""
