/*
 * Looks whether this browser can show the study, before anything else runs. In the JavaScript of 2009, because it is for
 * browsers that don't understand the other scripts. `window.studySupport` is a promise, or undefined where it can't run at all.
 */
(function () {
  "use strict";

  // A picture of one pixel in the format of the sprites.
  var PICTURE = "data:image/avif;base64,AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAHAAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAAAQAAAAEAAAAQcGl4aQAAAAADCAgIAAAADGF2MUOBIAAAAAAAE2NvbHJuY2x4AAEADQAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAJG1kYXQSAAoHOAAGkBDQaTIPGUJjBMPPPPNBIACQQM3o";

  function complain() {
    document.getElementById("unsupported").hidden = false;
    document.getElementById("stage").hidden = true;
  }

  var able =
    "noModule" in document.createElement("script") &&
    "inert" in document.createElement("div") &&
    "replaceChildren" in document.createElement("div") &&
    typeof window.createImageBitmap === "function" &&
    typeof window.BroadcastChannel === "function" &&
    typeof window.AbortSignal === "function" &&
    typeof window.AbortSignal.timeout === "function";
  if (!able) {
    complain();
    return;
  }
  window.studySupport = new Promise(function (resolve) {
    var image = new Image();
    image.onload = function () {
      resolve(image.width === 1);
    };
    image.onerror = function () {
      resolve(false);
    };
    image.src = PICTURE;
  }).then(function (shows) {
    if (!shows) complain();
    return shows;
  });
})();
