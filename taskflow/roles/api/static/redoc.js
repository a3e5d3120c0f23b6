import { init } from "./redoc-bundle.js";

// Without the first of these it reports to its vendor.
init("/openapi.json", { disableTelemetry: true }, document.getElementById("page"));
