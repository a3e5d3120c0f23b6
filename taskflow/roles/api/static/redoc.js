"use strict";

// Without this it reports to its vendor.
Redoc.init("/openapi.json", { disableTelemetry: true, hideLogo: true }, document.getElementById("page"));
